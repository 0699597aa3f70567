"""Perturbation methods on images: patches, regions and words that play, against loops by hand."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from math import factorial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from apportion import ApportionError, AtMan, Banzhaf, ContextCite, Explainer, LeaveOneOut, Occlusion, Shapley
from tests.architectures import TinyModel, build


@cache
def tiny(task: Any, name: str) -> TinyModel:
    return build(task, name)


def vit() -> TinyModel:
    return tiny("image_classification", "vit")


def explained(method: Any, task: Any = "image_classification", name: str = "vit", **options: Any) -> Any:
    small = tiny(task, name)
    return Explainer(small.model).explain(small.inputs, method=method, progress=False, **options)


def mean_coloured(image: Tensor, patches: list[int], side: int = 8) -> Tensor:
    """A square image of which some patches have its mean colour."""
    changed, across = image.clone(), image.shape[-1] // side
    for patch in patches:
        r, c = divmod(patch, across)
        changed[:, :, r * side : (r + 1) * side, c * side : (c + 1) * side] = image.mean((2, 3), keepdim=True)
    return changed


def class_of(image: Tensor) -> int:
    with torch.no_grad():
        return int(vit().model(pixel_values=image).logits[0].argmax())


def value(image: Tensor) -> float:
    top = class_of(vit().inputs["pixel_values"])
    with torch.no_grad():
        return float(vit().model(pixel_values=image).logits[0, top])


def test_leave_one_out_equals_a_loop_over_patches() -> None:
    image = vit().inputs["pixel_values"]
    found = explained("leave-one-out")
    by_hand = [value(image) - value(mean_coloured(image, [patch])) for patch in range(16)]
    assert_close(found.scores.double(), torch.tensor(by_hand, dtype=torch.float64))
    assert found.options["masker"] == "mean"
    assert [f.kind for f in found.features] == ["patch"] * 16
    assert_close(explained(LeaveOneOut(features="patches")).scores, found.scores)


def test_shapley_of_four_regions_equals_the_definition() -> None:
    image = vit().inputs["pixel_values"]
    found = explained("shapley", regions=16)
    paid = {
        s: value(mean_coloured(image, [p for p in range(4) if p not in s], 16))
        for size in range(5)
        for s in combinations(range(4), size)
    }
    by_hand = torch.zeros(4, dtype=torch.float64)
    for player in range(4):
        for coalition, worth in paid.items():
            if player not in coalition:
                weight = factorial(len(coalition)) * factorial(3 - len(coalition)) / factorial(4)
                by_hand[player] += weight * (paid[tuple(sorted((*coalition, player)))] - worth)
    assert_close(found.scores.double(), by_hand)
    assert_close(found.scores.sum().item(), paid[0, 1, 2, 3] - paid[()])
    assert abs(found.ledger.lines["target with nothing present"].item() - paid[()]) < 1e-9
    banzhaf = explained("banzhaf", regions=16)
    joins = [paid[tuple(sorted((*s, 0)))] - paid[s] for s in paid if 0 not in s]
    assert_close(banzhaf.scores[0].item(), sum(joins) / 8)


@pytest.mark.parametrize("masker", ["zero", "blur", "inpaint", "drop-tokens"])
def test_shapley_values_sum_to_what_the_image_makes_whatever_the_masker(masker: str) -> None:
    found = explained(Shapley(masker=masker, budget=64), regions=16)
    assert_close(found.scores.sum() + found.ledger.lines["target with nothing present"], found.ledger.total)
    assert found.options["masker"] == masker


def test_masks_by_name_play_whole() -> None:
    image = vit().inputs["pixel_values"]
    left = torch.zeros(32, 32, dtype=torch.bool)
    left[:, :16] = True
    found = explained("leave-one-out", regions={"left": left})
    by_hand = [value(image) - value(mean_coloured(image, half)) for half in ([0, 1, 4, 5, 8, 9, 12, 13],)]
    assert [f.label for f in found.features] == ["left", "(the rest)"]
    assert_close(found.scores[:1].double(), torch.tensor(by_hand, dtype=torch.float64))
    spans = explained(LeaveOneOut(features={"left": [0, 1, 4, 5, 8, 9, 12, 13]}))
    assert_close(spans.scores[0], found.scores[0])
    assert spans.features[0].kind == "region"


def test_occlusion_moves_squares_over_the_grid() -> None:
    image = vit().inputs["pixel_values"]
    found = explained(Occlusion(window=2, stride=2))
    by_hand = torch.zeros(16, dtype=torch.float64)
    for r in (0, 2):
        for c in (0, 2):
            inside = [(r + dr) * 4 + c + dc for dr in (0, 1) for dc in (0, 1)]
            by_hand[inside] = value(image) - value(mean_coloured(image, inside))
    assert_close(found.scores.double(), by_hand)
    assert found.cost.forward == 4
    overlapping = explained(Occlusion(window=3))
    corner = [0, 1, 2, 4, 5, 6, 8, 9, 10]
    assert_close(overlapping.scores[0].item(), value(image) - value(mean_coloured(image, corner)))


def test_occlusion_leaves_regions_without_a_grid_out_one_at_a_time() -> None:
    regions = torch.arange(32)[:, None].expand(32, 32) * torch.arange(32) // 200
    alone = explained("leave-one-out", regions=regions)
    assert_close(explained(Occlusion(window=3), regions=regions).scores, alone.scores)


def test_several_images_at_once_equal_each_alone() -> None:
    image = vit().inputs["pixel_values"]
    both = {"pixel_values": torch.cat([image, image.flip(-1)])}
    own = Explainer(vit().model)
    together = own.explain_many(both, method="leave-one-out", batch_size=2, progress=False, target=1)
    for k, found in enumerate(together):
        alone = own.explain({"pixel_values": both["pixel_values"][k : k + 1]}, method="leave-one-out", target=1)
        assert_close(found.scores, alone.scores)


@pytest.mark.parametrize(("task", "name"), [
    ("zero_shot_image_classification", "clip"),
    ("vision_language", "llava"),
    ("vision_language", "gemma3"),
])  # fmt: skip
def test_words_and_patches_play_together(task: Any, name: str) -> None:
    found = explained("leave-one-out", task, name)
    small = tiny(task, name)
    kinds = [f.kind for f in found.features]
    assert found.options["masker"] == "delete+mean"
    placeholders = [i for i, kind in enumerate(kinds) if kind == "placeholder"]
    assert not bool(found.scores[placeholders].any())
    task = Explainer(small.model).prepare(small.inputs, [*_targets(small)], ())
    image, word = 1, len(kinds) - 2
    prompt = task.prompts[0]
    rows = kinds.count("patch")
    side = 32 // int(rows**0.5)
    changed = {**small.inputs, "pixel_values": mean_coloured(small.inputs["pixel_values"], [image], side)}
    token = word - prompt.before_tokens
    kept = [i for i in range(small.inputs["input_ids"].shape[1]) if i != token]
    deleted = {
        key: v[:, kept] if key in ("input_ids", "attention_mask", "token_type_ids") else v
        for key, v in small.inputs.items()
    }
    for player, inputs in ((image, changed), (word, deleted)):
        drop = _value(small, small.inputs) - _value(small, inputs)
        assert abs(found.scores[player].item() - drop) < 1e-8


def _targets(small: TinyModel) -> list[Any]:
    return Explainer(small.model).targets(small.inputs, None, None, "logit", None)


def _value(small: TinyModel, inputs: Any) -> float:
    with torch.no_grad():
        output, whole = small.model(**inputs), small.model(**small.inputs)
    if hasattr(output, "image_embeds"):
        return float((output.image_embeds * output.text_embeds).sum())
    return float(output.logits[0, -1, whole.logits[0, -1].argmax()])


@pytest.mark.parametrize(("task", "name"), [
    ("zero_shot_image_classification", "clip"),
    ("vision_language", "llava"),
    ("vision_language", "qwen2_vl"),
])  # fmt: skip
def test_games_of_words_and_regions_share_out_the_whole(task: Any, name: str) -> None:
    masker = "replace(0)" if name == "clip" else "auto"  # it has no token that begins a text
    found = explained(Shapley(budget=100, masker=masker), task, name, regions=16)
    assert_close(found.scores.sum() + found.ledger.lines["target with nothing present"], found.ledger.total)
    for method in (Banzhaf(budget=64, masker=masker), ContextCite(masker=masker), Occlusion(window=2)):
        assert bool(explained(method, task, name, regions=16).scores.isfinite().all())


def test_context_cite_of_an_image_divides_among_its_regions() -> None:
    found = explained(ContextCite(alpha=1e-6, ablations=128), regions=16)
    assert len(found.features) == 4
    assert found.options["masker"] == "mean"
    assert found.options["held_out_rank_correlation"][0] > 0.7


@pytest.mark.parametrize("name", ["vit", "dinov2_with_registers"])
def test_atman_suppresses_the_columns_of_a_patch(name: str) -> None:
    small = tiny("image_classification", name)
    found = explained(AtMan(suppression=0.9), name=name)
    eager = build("image_classification", name, attention="eager").model
    with torch.no_grad():
        before = eager(**small.inputs).logits[0]
    top, keys = int(before.argmax()), []
    softmax = torch.nn.functional.softmax

    def suppressed(scores: Tensor, *arguments: Any, **options: Any) -> Tensor:
        scores = scores.clone()
        keys.append(scores.shape[-1])
        scores[..., scores.shape[-1] - 16 + 6] *= 1 - 0.9
        return softmax(scores, *arguments, **options)

    with pytest.MonkeyPatch.context() as patched, torch.no_grad():
        patched.setattr(torch.nn.functional, "softmax", suppressed)
        after = eager(**small.inputs).logits[0]
    assert keys
    assert_close(found.scores[6].item(), float(before[top] - after[top]), atol=1e-6, rtol=1e-6)


def test_atman_serves_both_sides_of_a_pair_and_refuses_what_has_no_columns_of_patches() -> None:
    for method in ("atman", "leave-one-out", "attnlrp"):
        sizes = explained(method, "zero_shot_image_classification", "clip").scores.abs()
        assert float(sizes.min()) > 1e-6 * float(sizes.max()), (
            method
        )  # far above rounding: every word and patch is read
    for task, name in (("image_classification", "swin"), ("vision_language", "llava")):
        with pytest.raises(ApportionError):
            explained("atman", task, name)
    with pytest.raises(ApportionError, match="leave it out for prompts with images"):
        explained(AtMan(similarity=0.7))


def test_a_masker_for_text_does_not_serve_an_image_alone() -> None:
    with pytest.raises(ApportionError, match="the masker 'attention-mask' is for text, and the prompt is an image"):
        explained(LeaveOneOut(masker="attention-mask"))
