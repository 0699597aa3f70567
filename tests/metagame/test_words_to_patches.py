"""Words to patches: the metagame of a caption and an image, against its definition with one loop per coalition."""

from __future__ import annotations

from functools import cache
from itertools import permutations
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from torch.testing import assert_close
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast, SiglipConfig, SiglipModel

import apportion as ap
from apportion.core._features import Feature
from apportion.metagame.captions._caption import caption
from apportion.methods import Shapley
from tests.asking import with_game
from tests.test_pairs import bert, picture, words

WORDS = ("a", "red", "circle", "blue", "square", "above", ",")
TEXT = "a red circle"
TOWER: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
VISION: dict[str, Any] = {**TOWER, "image_size": 8, "patch_size": 4}
TEXTS: dict[str, Any] = {**TOWER, "vocab_size": 16, "bos_token_id": 3, "eos_token_id": 4, "pad_token_id": 0}


def tokenizer(*, ends: bool = True) -> PreTrainedTokenizerFast:
    vocabulary = {word: k for k, word in enumerate(("<pad>", "<unk>", "<x>", "<s>", "</s>", *WORDS))}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    if ends:
        special = [("<s>", 3), ("</s>", 4)]
        raw.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=special)
    named = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=raw, **named)


@cache
def model(name: str = "clip") -> Any:
    torch.manual_seed(0)
    sides: dict[str, Any] = {"text_config": {**TEXTS, "max_position_embeddings": 12}, "vision_config": VISION}
    made: Any = (
        CLIPModel(CLIPConfig(**sides, projection_dim=8)) if name == "clip" else SiglipModel(SiglipConfig(**sides))
    )
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return made.double().eval()


def explainer(name: str = "clip") -> ap.Explainer:
    return ap.Explainer(model(name), tokenizer())


def tokenised(name: str, text: str) -> dict[str, Tensor]:
    if name == "clip":
        return dict(tokenizer()(text, return_tensors="pt"))
    return {"input_ids": tokenizer()(text, padding="max_length", max_length=12, return_tensors="pt")["input_ids"]}


def by_autograd(name: str, text: str) -> Tensor:
    """Input × gradient of the cosine to a text held constant, summed over each patch of 4 × 4 pixels."""
    with torch.no_grad():
        direction = model(name).get_text_features(**tokenised(name, text)).pooler_output[0]
    pixels = picture()[None].requires_grad_(True)
    encoding = model(name).get_image_features(pixel_values=pixels).pooler_output[0]
    (gradient,) = torch.autograd.grad(torch.cosine_similarity(encoding, direction, dim=0), pixels)
    return (gradient * pixels.detach())[0].sum(0).view(2, 4, 2, 4).sum((1, 3)).flatten()


def shapley(payoffs: Any, players: list[str]) -> Tensor:
    """What each player adds on average over all orders."""
    orders = list(permutations(range(len(players))))
    found = torch.zeros(len(players), 4, dtype=torch.float64)
    for order in orders:
        for k, player in enumerate(order):
            before = " ".join(players[i] for i in sorted(order[:k]))
            after = " ".join(players[i] for i in sorted(order[: k + 1]))
            found[player] += (payoffs(after) - payoffs(before)) / len(orders)
    return found


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_equals_the_shapley_values_of_gradients_by_hand(name):
    found = explainer(name).interactions(ap.Pair(picture(), TEXT), method="input-x-gradient", progress=False)
    payoffs = cache(lambda text: by_autograd(name, text))
    assert_close(found.values, shapley(payoffs, TEXT.split()), rtol=1e-8, atol=1e-10)
    assert_close(found.main_effect, payoffs(""), rtol=1e-8, atol=1e-10)
    assert_close(found.first_order, payoffs(TEXT), rtol=1e-8, atol=1e-10)
    assert [source.label.strip() for source in found.sources] == TEXT.split()
    assert [target.kind for target in found.features] == ["patch"] * 4
    assert found.evaluations == 8
    assert found.source_of == (None,) * 4
    assert len(found.pictures) == 1


@pytest.mark.parametrize("method", ["attnlrp", "res-lrp"])
def test_a_text_held_constant_leaves_the_image_both_halves_of_the_product(method):
    """A product of two encodings shares its relevance in halves; with one held constant the other has all of it."""

    def payoffs(text: str) -> Tensor:
        return 2 * explainer().explain(ap.Pair(picture(), text), method=method).scores[:4].double()

    whole = explainer().interactions(ap.Pair(picture(), TEXT), method=method, progress=False)
    assert_close(whole.first_order, payoffs(TEXT), rtol=1e-8, atol=1e-10)
    last = explainer().interactions(
        ap.Pair(picture(), TEXT), method=method, progress=False, game=ap.Game(players=["circle"])
    )
    assert_close(last.values[0], payoffs(TEXT) - payoffs("a red"), rtol=1e-8, atol=1e-10)
    assert_close(last.main_effect, payoffs("a red"), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_what_is_explained_is_the_similarity_that_the_model_finds(name):
    found = explainer(name).interactions(ap.Pair(TEXT, picture()), progress=False)
    with torch.no_grad():
        output = model(name)(pixel_values=picture()[None], **tokenised(name, TEXT))
    own = torch.cosine_similarity(output.image_embeds, output.text_embeds).item()
    assert found.target.value == pytest.approx(own, abs=1e-10)


@pytest.mark.parametrize(
    "method", ["cp-lrp", "gradient", "integrated-gradients(steps=3)", "chefer", "grad-cam", "leave-one-out", "shapley"]
)
def test_what_the_words_move_is_the_caption_less_nothing_for_any_method(method):
    found = explainer().interactions(ap.Pair(picture(), TEXT), method=method, progress=False)
    assert_close(found.values.sum(0), found.first_order - found.main_effect, rtol=1e-8, atol=1e-10)
    assert found.gap.abs().max() < 1e-10


def test_shapley_values_of_patches_are_those_of_the_similarity():
    found = explainer().interactions(ap.Pair(picture(), TEXT), method="shapley", progress=False)
    dark = torch.zeros_like(picture())[None] + picture().mean((1, 2))[:, None, None]
    with torch.no_grad():
        text = model().get_text_features(**tokenised("clip", TEXT)).pooler_output
        cosines = [
            torch.cosine_similarity(model().get_image_features(pixel_values=pixels).pooler_output, text).item()
            for pixels in (picture()[None], dark)
        ]
    assert found.first_order.sum().item() == pytest.approx(cosines[0] - cosines[1], abs=1e-8)


def test_the_image_is_read_once_and_each_text_once():
    found = explainer().interactions(ap.Pair(picture(), "a red a"), method="input-x-gradient", progress=False)
    # Nothing, a, red, a red, red a, a a, a red a; the image; and the pair as the model itself reads it.
    assert found.cost is not None
    assert found.cost.forward == 7 + 1 + 1
    assert found.evaluations == 8
    payoffs = cache(lambda text: by_autograd("clip", text))
    assert_close(found.values, shapley(payoffs, ["a", "red", "a"]), rtol=1e-8, atol=1e-10)


def test_several_captions_are_paid_the_sum():
    texts = ["a red circle", "blue square"]
    found = explainer().interactions(ap.Pair(picture(), texts), method="attnlrp", progress=False)
    apart = [explainer().interactions(ap.Pair(picture(), text), method="attnlrp", progress=False) for text in texts]
    assert_close(found.values, torch.cat([one.values for one in apart]))
    assert_close(found.first_order, apart[0].first_order + apart[1].first_order)
    assert found.gap.abs().max() < 1e-10
    assert found.target.value == pytest.approx(sum(one.target.value for one in apart))
    assert_close(found.words().values, found.values)
    assert [source.part for source in found.sources] == ["caption 1"] * 3 + ["caption 2"] * 2


def test_of_phrases_only_these_play():
    text = "a red circle above a blue square"
    found = explainer().interactions(
        ap.Pair(picture(), text),
        method="input-x-gradient",
        progress=False,
        game=ap.Game(players=["a red circle", "a blue square"]),
    )
    assert found.values.shape == (2, 4)
    assert_close(found.main_effect, by_autograd("clip", "above"), rtol=1e-8, atol=1e-10)
    left_out = found.first_order - by_autograd("clip", "above a blue square")
    added = by_autograd("clip", "a red circle above") - found.main_effect
    assert_close(found.values[0], (left_out + added) / 2, rtol=1e-8, atol=1e-10)


def pieces(text: str) -> list[Feature]:
    """A feature for each word and each mark, as a tokenizer gives them."""
    raw = pre_tokenizers.Whitespace().pre_tokenize_str(text)
    starts = [0, *(end for _, (_, end) in raw)]
    return [
        Feature(label=text[start:end], start=start, end=end) for start, (_, (_, end)) in zip(starts, raw, strict=False)
    ]


@pytest.mark.parametrize(
    ("text", "absent", "left"),
    [
        ("a red circle", ["red"], "a circle"),
        ("a red circle", ["a"], "red circle"),
        ("a red circle", ["circle"], "a red"),
        ("a  red circle ", [], "a  red circle "),
        ("a red circle, blue", ["circle"], "a red, blue"),
        ("a (red) circle", ["red"], "a () circle"),
        ("red,blue", [","], "red blue"),
        ("a red circle", ["a", "red", "circle"], ""),
    ],
)
def test_what_is_left_of_a_caption_is_a_text(text, absent, left):
    made = caption(text, pieces(text), "words", "text")
    present = torch.tensor([player.label.strip() not in absent for player in made.players])
    assert made.without_absent(present) == left


def test_tokens_and_features_play_in_their_places():
    pair, own = ap.Pair(picture(), TEXT), explainer()
    found = own.interactions(
        pair, of="features", method="attnlrp", progress=False, game=ap.Game(players="words", budget=200)
    )
    assert found.options["masker"] != "deleted from the text"
    assert len(found.features) == 4 + 5
    assert found.gap.abs().max() < 1e-8
    patches = own.interactions(
        pair, regions=8, method="attnlrp", progress=False, game=ap.Game(players="patches", estimator="exact")
    )
    assert patches.square
    assert len(patches.sources) == 4


def test_words_of_a_sentence_move_those_of_another():
    """A pair of texts has no image: its tokens play in their places."""
    found = ap.Explainer(bert(), words()).interactions(ap.Pair("a b", "c d"), method="attnlrp", progress=False)
    assert [source.label.strip() for source in found.sources] == ["a", "b", "c", "d"]
    assert found.square
    assert found.gap.abs().max() < 1e-8


class Turned(CLIPModel):
    """Compares an image with what is not its text's encoding."""

    def forward(self, input_ids: Any = None, pixel_values: Any = None, attention_mask: Any = None) -> Any:
        output = super().forward(input_ids, pixel_values, attention_mask)
        output.text_embeds = output.text_embeds.flip(-1)
        return output


def turned() -> Turned:
    made = Turned(model().config).double().eval()
    made.load_state_dict(model().state_dict())
    return made


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"target": 0}, "leave target out"),
        ({"masker": "replace"}, "words are deleted"),
        ({"order": 3}, "order 2"),
        ({"path": "kept.safetensors"}, "keep no file"),
        ({"players": ["green"]}, "occurs 0 times"),
        ({"given": [3, 5]}, "give ap.Pair"),
        ({"given": ["a red", "a blue"], "players": ["red"]}, "of one caption"),
        ({"given": []}, "give ap.Pair"),
        ({"given": " ".join(["a red"] * 6)}, "14 tokens"),
        ({"tokenizer": tokenizer(ends=False)}, "adds no special tokens"),
        ({"made": turned}, "cannot be told apart"),
        ({"method": Shapley(features="words")}, "groups of its own"),
    ],
)
def test_what_does_not_fit_is_refused(asked, said):
    own = ap.Explainer(asked.get("made", model)(), asked.get("tokenizer", tokenizer()))
    pair = ap.Pair(picture(), asked.get("given", TEXT))
    options = {name: value for name, value in asked.items() if name not in ("made", "tokenizer", "given")}
    with pytest.raises(ap.ApportionError, match=said):
        own.interactions(pair, progress=False, **with_game(**{"method": "attnlrp", **options}))
