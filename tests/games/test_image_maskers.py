"""Maskers of images: what the model reads when patches, pixels or regions are absent."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from apportion import ApportionError, Cosine, Explainer
from apportion.games import Blur, Inpaint, as_masker, in_prompt
from apportion.task._task import AttributionTask
from apportion.task._variant import Variant
from tests.architectures import TinyModel, build

FILLING = ("zero", "mean", "blur", "inpaint")


@cache
def tiny(task: Any, name: str) -> TinyModel:
    return build(task, name)


def asked(
    task: Any = "image_classification", name: str = "vit", regions: Any = "patches", **inputs: Any
) -> AttributionTask:
    small = tiny(task, name)
    own = Explainer(small.model)
    given = {**small.inputs, **inputs}
    return own.prepare(given, own.targets(given, None, None, "logit", None), (), regions=regions)


def without(masker: str, task: AttributionTask, *absent: int) -> Variant:
    present = torch.ones(len(task.prompts[0].features), dtype=torch.bool)
    present[list(absent)] = False
    return in_prompt(as_masker(masker), task).variant(task, 0, present)


def one_of_each_frame() -> dict[str, Tensor]:
    """Rows of patches of a single image, whose two frames are the same, as Qwen's processor makes them."""
    rows = tiny("vision_language", "qwen2_vl").inputs["pixel_values"]
    frames = rows.reshape(len(rows), 3, 2, -1)
    return {"pixel_values": frames[:, :, :1].expand_as(frames).reshape(rows.shape).clone()}


@pytest.mark.parametrize("masker", FILLING)
def test_only_the_pixels_of_an_absent_patch_change(masker: str) -> None:
    task = asked()
    (before,), side = task.prompts[0].inputs["pixel_values"], 8
    (after,) = without(masker, task, 5).prompt.inputs["pixel_values"]  # the second patch of the second row
    changed = (before != after).any(0)
    patch = torch.zeros(32, 32, dtype=torch.bool)
    patch[side : 2 * side, side : 2 * side] = True
    assert torch.equal(changed, patch)
    assert torch.equal(before, tiny("image_classification", "vit").inputs["pixel_values"][0])


def test_zero_and_mean_are_what_their_names_say() -> None:
    task = asked()
    before = task.prompts[0].inputs["pixel_values"][0]
    zero, mean = (without(name, task, 0).prompt.inputs["pixel_values"][0, :, :8, :8] for name in ("zero", "mean"))
    assert not bool(zero.any())
    assert_close(mean, before.mean((1, 2))[:, None, None].expand_as(mean))


def test_a_blur_equals_the_gaussian_sum_by_hand() -> None:
    image = torch.rand(9, 7, 2, dtype=torch.float64)
    blur = Blur(kernel=113, sigma=60.0)  # at 63 pixels, a window of 5 by 5
    scale = 63**0.5 / 224
    half, sigma = round((113 * scale - 1) / 2), 60 * scale
    assert half == 2
    by_hand = torch.zeros_like(image)
    for y in range(9):
        for x in range(7):
            total = 0.0
            for j in range(max(0, y - half), min(9, y + half + 1)):
                for i in range(max(0, x - half), min(7, x + half + 1)):
                    weight = float(torch.tensor(-((j - y) ** 2 + (i - x) ** 2) / (2 * sigma**2)).double().exp())
                    by_hand[y, x] += weight * image[j, i]
                    total += weight
            by_hand[y, x] /= total
    assert_close(blur.of(image), by_hand)


def test_a_blur_at_the_usual_size_has_the_usual_kernel_and_leaves_a_plain_image_as_it_is() -> None:
    dot = torch.zeros(224, 224, 1, dtype=torch.float64)
    dot[112, 112] = 1
    seen = Blur().of(dot)[..., 0]
    assert int((seen[112] > 0).sum()) == 51
    assert_close(seen[112, 112] / seen[112, 132], torch.tensor(0.5, dtype=torch.float64).exp())
    plain = torch.full((12, 20, 3), 0.3, dtype=torch.float64)
    assert_close(Blur().of(plain), plain)


def test_inpainting_solves_for_the_mean_of_neighbours() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(6, 5, 2, generator=generator, dtype=torch.float64)
    there = torch.rand(6, 5, generator=generator) < 0.4
    there[:, 3:] = False  # a corner whose pixels have no known neighbour
    gaps = [(y, x) for y in range(6) for x in range(5) if not there[y, x]]
    matrix = torch.zeros(len(gaps), len(gaps), dtype=torch.float64)
    right = torch.zeros(len(gaps), 2, dtype=torch.float64)
    for row, (y, x) in enumerate(gaps):
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                j, i = y + dy, x + dx
                if (dy, dx) == (0, 0) or not (0 <= j < 6 and 0 <= i < 5):
                    continue
                weight = 1.0 if 0 in (dy, dx) else 0.5
                matrix[row, row] += weight
                if there[j, i]:
                    right[row] += weight * image[j, i]
                else:
                    matrix[row, gaps.index((j, i))] -= weight
    solution = torch.linalg.solve(matrix, right)
    found = Inpaint().of(image, there)
    assert_close(torch.stack([found[y, x] for y, x in gaps]), solution, atol=1e-6, rtol=0)
    assert torch.equal(found[there], image[there])


def test_inpainting_continues_a_plain_image_adds_noise_on_request_and_knows_nothing_of_a_whole_one() -> None:
    plain = torch.full((8, 8, 3), 0.7, dtype=torch.float64)
    there = torch.ones(8, 8, dtype=torch.bool)
    there[2:7, 1:6] = False
    assert_close(Inpaint().of(plain, there), plain)
    noisy = Inpaint(noise=0.1).of(plain, there)
    assert torch.equal(noisy[there], plain[there])
    assert 0.05 < float((noisy - plain)[~there].std()) < 0.15
    assert torch.equal(noisy, Inpaint(noise=0.1).of(plain, there))
    assert not bool(Inpaint().of(plain, ~there & there).any())


def test_rows_of_patches_change_as_the_image_does() -> None:
    """Qwen's rows hold an image in windows of four patches; the same image as planes must give the same pixels."""
    given = one_of_each_frame()
    task = asked("vision_language", "qwen2_vl", **given)
    continuous = task.prompts[0].continuous_inputs[0]
    assert continuous.count == 4
    rows = given["pixel_values"].reshape(2, 2, 2, 2, 3, 2, 8, 8)  # (row, column) of windows, then of patches in them
    planes = rows[:, :, :, :, :, 0].permute(4, 0, 2, 5, 1, 3, 6).reshape(3, 32, 32).permute(1, 2, 0)
    there = torch.ones(32, 32, dtype=torch.bool)
    there[:16, 16:] = False
    wanted = {
        "zero": torch.zeros_like(planes),
        "mean": planes.mean((0, 1)).expand_as(planes),
        "blur": Blur().of(planes),
        "inpaint": Inpaint().of(planes, there),
    }
    for masker, filled in wanted.items():
        found = without(f"delete+{masker}", task, 1).prompt.inputs["pixel_values"].reshape(rows.shape)
        for frame in (0, 1):
            image = found[:, :, :, :, :, frame].permute(4, 0, 2, 5, 1, 3, 6).reshape(3, 32, 32).permute(1, 2, 0)
            assert_close(image, torch.where(there[..., None], planes, filled))


def test_frames_that_differ_have_a_mean_but_no_picture_to_blur() -> None:
    task = asked("vision_language", "qwen2_vl")  # random rows
    value = task.prompts[0].inputs["pixel_values"].reshape(16, 3, -1)
    found = without("mean", task, 0).prompt.inputs["pixel_values"].reshape(16, 3, -1)
    changed = (found != value).any(-1).all(-1)
    assert int(changed.sum()) == 4
    assert_close(found[changed], value.mean((0, 2))[:, None].expand_as(found[changed]))
    with pytest.raises(ApportionError, match="belong to one pixel, as in films"):
        without("blur", task, 0)


@pytest.mark.parametrize(("task", "name", "before"), [
    ("image_classification", "vit", 1),
    ("image_classification", "deit", 2),
    ("image_classification", "dinov2_with_registers", None),
    ("zero_shot_image_classification", "siglip", 0),
])  # fmt: skip
def test_dropping_tokens_equals_the_layers_on_the_shorter_sequence(task: Any, name: str, before: int | None) -> None:
    task = asked(task, name)
    variant = without("drop-tokens", task, 0, 3, 9)
    (found,) = task.evaluate(0, [variant])
    model, inputs = task.head.model, dict(task.prompts[0].inputs)
    modules = [m for n, m in model.named_modules() if n.endswith(".embeddings") and "text" not in n]
    whole: list[Tensor] = []
    handle = modules[0].register_forward_hook(lambda module, given, output: whole.append(output))
    model(**inputs)
    handle.remove()
    count = whole[0].shape[1] - 16
    assert before is None or count == before
    kept = [*range(count), *(count + patch for patch in range(16) if patch not in (0, 3, 9))]
    short = torch.stack([whole[0][:, place] for place in kept], 1)
    forward = modules[0].forward
    try:
        modules[0].forward = lambda *arguments, **options: short
        with torch.no_grad():
            output = model(**inputs)
    finally:
        modules[0].forward = forward
    if name == "siglip":
        expected = (output.image_embeds * output.text_embeds).sum()
    else:
        whole_output = model(**inputs).logits[0]
        expected = output.logits[0, whole_output.argmax()]
    assert_close(found[0], expected.double().detach())


def test_dropping_a_batch_of_different_tokens_equals_dropping_each_alone() -> None:
    task = asked()
    variants = [without("drop-tokens", task, *absent) for absent in [(0,), (5,), (3, 4), (), (8, 15)]]
    together = task.evaluate(0, variants)
    assert_close(together, torch.cat([task.evaluate(0, [one]) for one in variants]))
    assert_close(together[3, 0].item(), task.target_values.values[0][0])
    assert len(set(together.flatten().tolist())) == 5


def test_dropping_every_patch_leaves_the_class_token() -> None:
    task = asked()
    (alone,) = task.evaluate(0, [without("drop-tokens", task, *range(16))])
    assert bool(alone.isfinite().all())
    with pytest.raises(ApportionError, match="has no token beside its patches"):
        without("drop-tokens", asked("zero_shot_image_classification", "siglip"), *range(16))


@pytest.mark.parametrize(("task", "name"), [
    ("image_classification", "swin"),
    ("image_classification", "resnet"),
    ("vision_language", "llava"),
])  # fmt: skip
def test_tokens_are_not_dropped_where_their_order_counts(task: Any, name: str) -> None:
    with pytest.raises(ApportionError, match="needs a plain stack of patches"):
        without("drop-tokens", asked(task, name), 1)


def test_a_part_of_a_patch_cannot_be_dropped() -> None:
    with pytest.raises(ApportionError, match="covers a part of a patch"):
        without("drop-tokens", asked(regions=4), 1)
    assert_close(  # but four patches in one region can
        *(asked().evaluate(0, [without("drop-tokens", task, *absent)]) for task, absent in (
            (asked(regions=16), (0,)), (asked(), (0, 1, 4, 5))))
    )  # fmt: skip


@pytest.mark.parametrize("name", ["llava", "gemma3", "qwen2_vl"])
@pytest.mark.parametrize("masker", ["zero", "mean"])
def test_absent_visual_tokens_are_replaced_before_the_language_part_reads_them(name: str, masker: str) -> None:
    task = asked("vision_language", name, regions="visual-tokens")
    model, inputs = task.head.model, dict(task.prompts[0].inputs)
    (found,) = task.evaluate(0, [without(f"delete+{masker}", task, 1, 2)])
    part = next(m for m in reversed(list(model.modules())) if callable(getattr(m, "get_image_features", None)))
    make, rows = part.get_image_features, []

    def by_hand(*arguments: Any, **options: Any) -> Any:
        output = make(*arguments, **options)
        given = output.pooler_output
        tokens = torch.cat(list(given)) if isinstance(given, list | tuple) else given.reshape(-1, given.shape[-1])
        rows.append(len(tokens))
        mean = tokens.mean(0)
        tokens = tokens.clone()
        for k in (1, 2):
            tokens[k] = 0 if masker == "zero" else mean
        output["pooler_output"] = [tokens] if isinstance(given, list | tuple) else tokens.reshape(given.shape)
        return output

    part.get_image_features = by_hand
    try:
        with torch.no_grad():
            logits = model(**inputs).logits[0, -1]
    finally:
        del part.get_image_features
    whole = model(**inputs).logits[0, -1]
    assert rows == [task.prompts[0].continuous_inputs[0].count]
    assert_close(found[0], logits[whole.argmax()].double())
    assert "get_image_features" not in vars(part)


def test_visual_tokens_have_no_pixels_to_blur() -> None:
    with pytest.raises(ApportionError, match="needs pixels, and visual tokens have none"):
        without("blur", asked("vision_language", "llava", regions="visual-tokens"), 0)


def test_one_name_serves_text_and_image() -> None:
    pair = asked("zero_shot_image_classification", "clip")
    image = asked()
    for given, of_pair, of_image in [
        ("auto", "delete+mean", "mean"),
        ("blur", "delete+blur", "blur"),
        ("delete", "delete+mean", None),
        ("blur+delete", "delete+blur", "blur"),
        ("delete + zero", "delete+zero", "zero"),
        ("zero+mean", "zero+mean", "mean"),
        ("mean", "mean+mean", "mean"),
        ("blur(sigma=10)", "delete+blur(kernel=51, sigma=10)", "blur(kernel=51, sigma=10)"),
        ("replace(3)+inpaint(noise=0.1)", "replace(3)+inpaint(noise=0.1, seed=0)", "inpaint(noise=0.1, seed=0)"),
        ("drop-tokens", "delete+drop-tokens", "drop-tokens"),
    ]:
        assert in_prompt(as_masker(given), pair).name == of_pair
        assert in_prompt(in_prompt(as_masker(given), pair), pair) == in_prompt(as_masker(given), pair)
        if of_image is None:
            with pytest.raises(ApportionError, match="is for text, and the prompt is an image"):
                in_prompt(as_masker(given), image)
        else:
            assert in_prompt(as_masker(given), image).name == of_image
    for wrong in ("delete+replace", "blur+inpaint", "delete+blur+zero"):
        with pytest.raises(ApportionError, match="must name one for text and one for images"):
            as_masker(wrong)
    with pytest.raises(ApportionError, match="no option 'width'"):
        as_masker("blur(width=3)")
    with pytest.raises(ApportionError, match="an odd kernel"):
        Blur(kernel=4)
    with pytest.raises(ApportionError, match="noise=-1"):
        Inpaint(noise=-1)


def test_text_and_image_are_made_absent_each_in_its_own_way() -> None:
    task = asked("zero_shot_image_classification", "clip")
    offset = task.prompts[0].before_tokens
    variant = without("delete+zero", task, 3, offset + 2)
    assert variant.prompt.inputs["input_ids"].shape[1] == task.prompts[0].inputs["input_ids"].shape[1] - 1
    assert not bool(variant.prompt.inputs["pixel_values"][0, :, :8, 24:].any())
    words = without("delete+zero", task, offset + 2)
    assert torch.equal(words.prompt.inputs["pixel_values"], task.prompts[0].inputs["pixel_values"])
    everyone = torch.ones(len(task.prompts[0].features), dtype=torch.bool)
    no_word, no_patch = everyone.clone(), everyone.clone()
    no_word[offset], no_patch[0] = False, False
    with pytest.raises(ApportionError, match="a token is absent too"):
        as_masker("blur").variant(task, 0, no_word)
    with pytest.raises(ApportionError, match="a part of an image is absent, and this masker is for text"):
        as_masker("delete").variant(task, 0, no_patch)


def test_embeddings_stand_in_for_words_only_where_the_image_keeps_its_place() -> None:
    llava = asked("vision_language", "llava")
    before = llava.prompts[0].before_tokens
    word = next(i for i, f in enumerate(llava.prompts[0].features) if i >= before and f.kind == "token")
    assert "inputs_embeds" in without("zero", llava, word).prompt.inputs
    for task, name in (("vision_language", "qwen2_vl"), ("zero_shot_image_classification", "clip")):
        task = asked(task, name)
        features = task.prompts[0].features
        word = next(i for i, f in enumerate(features) if i >= task.prompts[0].before_tokens and f.kind == "token")
        with pytest.raises(ApportionError, match=r"use masker='delete\+zero'"):
            without("zero", task, word)


def test_the_model_is_given_back_as_it_was() -> None:
    for task, name, masker in (
        ("image_classification", "vit", "drop-tokens"),
        ("vision_language", "llava", "mean"),
    ):
        regions = "patches" if name == "vit" else "visual-tokens"
        task = asked(task, name, regions=regions)
        model = task.head.model
        _ = task.target_values
        before = {key: (sorted(vars(module)), len(module._forward_hooks)) for key, module in model.named_modules()}
        task.evaluate(0, [without(masker, task, 1)])
        after = {key: (sorted(vars(module)), len(module._forward_hooks)) for key, module in model.named_modules()}
        assert after == before


def test_targets_at_single_patches_refuse_a_shorter_sequence() -> None:
    small = tiny("image_tower", "dinov2")
    direction = torch.ones(small.config.hidden_size, dtype=torch.float64)
    task = Explainer(small.model).prepare(small.inputs, [Cosine(direction, of="mean")], ())
    with pytest.raises(ApportionError, match="whose place would move"):
        without("drop-tokens", task, 1)


def test_images_run_in_batches_of_their_patches_not_of_their_words() -> None:
    task = asked("zero_shot_image_classification", "clip")
    model, sizes = task.head.model, []
    handle = model.register_forward_hook(lambda module, given, output: sizes.append(len(output.image_embeds)))
    task.evaluate(0, [without("mean", task, 1)] * 200)
    handle.remove()
    assert sizes == [128, 72]  # 16 patches each, 2048 at once
