"""Vision-language models: image and words in one attribution, to pixels and to visual tokens."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from transformers import CLIPImageProcessorPil, LlavaProcessor

import apportion as ap
from apportion.relevance import ATTNLRP, record
from tests import tiny
from tests.architectures import TinyModel, build
from tests.test_images import photo

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
QUESTION = "the old man sees the dog"


@cache
def built(name: str) -> TinyModel:
    return build("vision_language", name)


@cache
def llava() -> ap.Explainer:
    """A tiny LLaVA with a processor as its users have it."""
    model = build("vision_language", "llava").model
    tokenizer = tiny.tokenizer("causal")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    for config in (model.config, model.model.config):
        config.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    side = model.config.vision_config.image_size
    images = CLIPImageProcessorPil(size={"height": side, "width": side}, do_center_crop=False)
    processor = LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=model.config.vision_config.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    return ap.Explainer(model, processor)


def chat() -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image", "image": photo()}, {"type": "text", "text": QUESTION}]}]


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "qwen3_vl", "gemma3"])
def test_image_and_words_share_one_attribution_whose_books_balance(name: str) -> None:
    model, inputs = built(name).model, built(name).inputs
    found = ap.Explainer(model).explain(inputs)
    assert found.method == "res-lrp"
    assert found.ledger.relative_residual.item() < 1e-6
    image = [k for k, feature in enumerate(found.features) if feature.image is not None]
    words = [k for k, feature in enumerate(found.features) if feature.kind == "token" and not feature.template]
    assert found.ledger.lines["image"].item() == pytest.approx(found.scores[image].sum().item(), abs=1e-9)
    assert found.ledger.lines["tokens"].item() == pytest.approx(found.scores[words].sum().item(), abs=1e-9)
    assert found.scores[image].abs().sum() > 0
    held = [k for k, feature in enumerate(found.features) if feature.kind == "placeholder"]
    assert len(held) == int((inputs["input_ids"] == model.config.image_token_id).sum())
    assert bool((found.scores[held] == 0).all())


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "gemma3"])
def test_visual_tokens_get_what_arrives_at_the_projectors_output(name: str) -> None:
    model, inputs = built(name).model, built(name).inputs
    found = ap.Explainer(model).explain(inputs, regions="visual-tokens")
    site = {"llava": "model.multi_modal_projector", "gemma3": "model.multi_modal_projector"}.get(
        name, "model.visual.merger"
    )
    trace = record(model, {**inputs, "use_cache": False}, site=site)
    logits = trace.output.logits
    seed = torch.zeros(1, *logits.shape, dtype=logits.dtype)
    seed[0, 0, -1, int(logits[0, -1].argmax())] = 1
    gradient = trace.propagate(logits, seed, ATTNLRP).gradients[site]
    expected = (trace.recording.site.value * gradient).sum(-1).flatten()
    image = [k for k, feature in enumerate(found.features) if feature.image is not None]
    assert found.method == "attnlrp"
    assert torch.allclose(found.scores[image], expected, atol=1e-7)
    assert found.ledger.relative_residual.item() < 1e-6


def test_what_later_layers_read_of_an_image_counts_as_visual_tokens_too() -> None:
    found = ap.Explainer(built("qwen3_vl").model).explain(built("qwen3_vl").inputs, regions="visual-tokens")
    assert found.ledger.relative_residual.item() < 1e-6
    assert "positions" not in found.ledger.lines  # those of the vision tower lie behind


def test_relevance_to_pixels_and_to_visual_tokens_differs_by_what_the_tower_keeps() -> None:
    model, inputs = built("llava").model, built("llava").inputs
    to_pixels = ap.Explainer(model).explain(inputs, method="cp-lrp")
    to_tokens = ap.Explainer(model).explain(inputs, method="cp-lrp", regions="visual-tokens")
    words = [k for k, feature in enumerate(to_pixels.features) if feature.kind == "token"]
    assert torch.allclose(to_pixels.scores[words], to_tokens.scores[words], atol=1e-9)
    assert not torch.allclose(to_pixels.scores[:16].sum(), to_tokens.scores[:16].sum(), atol=1e-3)


def test_a_models_method_is_given_back_after_visual_tokens() -> None:
    model = built("llava").model
    before = dict(vars(model.model))
    with pytest.raises(ap.ApportionError):
        ap.Explainer(model).explain(built("llava").inputs, regions="visual-tokens", target="no such token")
    ap.Explainer(model).explain(built("llava").inputs, regions="visual-tokens")
    assert "get_image_features" not in vars(model.model)
    assert vars(model.model).keys() == before.keys()


def test_a_chat_with_an_image_keeps_roles_and_template_apart() -> None:
    found = llava().explain(chat())
    words = [f for f in found.features if f.kind == "token" and not f.template]
    assert "".join(f.label for f in words).strip() == QUESTION
    assert {(f.role, f.turn) for f in words} == {("user", 0)}
    assert found.ledger.relative_residual.item() < 1e-6


def test_a_chat_a_text_and_the_models_own_inputs_are_the_same_prompt() -> None:
    text = llava().processor.apply_chat_template(chat(), tokenize=False, add_generation_prompt=True)
    inputs = llava().processor(images=photo(), text=text, return_tensors="pt", add_special_tokens=False)
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    one, other = llava().explain(chat()), llava().explain(inputs)
    assert torch.allclose(one.scores, other.scores, atol=1e-12)


@pytest.mark.parametrize("regions", ["patches", "visual-tokens"])
def test_every_token_of_an_answer_is_divided_over_image_and_words(regions: str) -> None:
    generation = llava().generate(chat(), max_new_tokens=3, regions=regions)
    found = generation.attribute()
    assert found.scores.shape == (3, len(found.features))
    first = llava().explain(chat(), target=generation.ids[0], regions=regions)
    before = len(first.features)
    assert torch.allclose(found.scores[0, :before], first.scores, atol=1e-9)
    assert bool((found.scores[0, before:] == 0).all())
    assert found.scores[:, :16].abs().sum() > 0
    assert all(ledger.relative_residual.item() < 1e-6 for ledger in (one.ledger for one in found))


def test_bad_prompts_are_refused_in_one_line() -> None:
    image = photo()
    cases: list[tuple[Any, str]] = [
        ({"images": [image, image], "text": "<image> the man"}, "1 places .* 2 images"),
        ({"text": "the <image> man"}, "1 places .* 0 images"),
        ({"images": image, "text": "the man"}, "0 places .* 1 images"),
        ({"images": image, "text": 5}, "give a text"),
        ({"images": image, "text": "<image>", "sound": 3}, "holds 'sound'"),
        ("the <image> man", "without an image"),
        ("the man sees", "without an image"),
        ([{"role": "user", "content": "the man"}], "without an image"),
        ([{"role": "user", "content": [{"type": "image"}]}], "no image"),
        ([{"role": "user", "content": [{"type": "video", "video": 1}]}], "its parts are"),
        (image, "reads images with text"),
        ({"images": "/nowhere/cat.png", "text": "<image> the man"}, "no file"),
    ]
    for prompt, message in cases:
        with pytest.raises(ap.ApportionError, match=message) as caught:
            llava().explain(prompt)
        assert "\n" not in str(caught.value)


def test_token_ids_alone_are_a_text_without_an_image() -> None:
    ids = llava().processor.tokenizer("the man sees", return_tensors="pt")["input_ids"]
    found = llava().explain(ids)
    assert found.method == "attnlrp"
    assert not found.pictures
