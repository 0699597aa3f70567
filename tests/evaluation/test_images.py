"""Evaluation on images: ground truth by masks, and curves that remove patches."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from transformers import ViTImageProcessorPil

from apportion import ApportionError, Explainer
from apportion.core._fingerprint import fingerprint
from apportion.evaluation import Item, as_measure, read_items, write_items
from apportion.evaluation._case import Case
from apportion.evaluation._random import Random
from apportion.games import Blur
from apportion.methods import as_method
from tests.architectures import build


@cache
def model(name: str = "vit", task: Any = "image_classification") -> Any:
    return build(task, name)


@cache
def explainer() -> Explainer:
    return Explainer(model().model, ViTImageProcessorPil(size={"height": 32, "width": 32}, resample=0))


def picture(side: int = 64) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)


def mask(rows: slice, columns: slice, side: int = 64) -> np.ndarray[Any, Any]:
    found = np.zeros((side, side), dtype=bool)
    found[rows, columns] = True
    return found


def case(truth: Any, **fields: Any) -> Case:
    return Case(explainer(), Item(id="one", prompt=picture(), truth=truth, **fields))


def test_a_mask_is_scaled_as_the_image_is_and_names_the_patches_it_half_covers() -> None:
    # Patches are 16 pixels of the image: the first is whole, the second three quarters, the fifth a quarter inside.
    one = case(mask(slice(0, 16), slice(0, 28)) | mask(slice(16, 20), slice(0, 16)))
    inside = one.inside(one.players)
    assert_close(inside[[0, 1, 4]], torch.tensor([1.0, 0.75, 0.25], dtype=torch.float64))
    assert inside.sum() == 2
    assert one.truth.nonzero().flatten().tolist() == [0, 1]


def test_a_cause_smaller_than_half_a_patch_is_the_patch_that_holds_most_of_it() -> None:
    one = case(mask(slice(8, 24), slice(4, 8)))
    assert one.truth.nonzero().flatten().tolist() == [0, 4]  # equal parts
    assert case(mask(slice(8, 20), slice(4, 8))).truth.nonzero().flatten().tolist() == [0]


def test_mass_counts_by_pixels_and_the_game_by_patches() -> None:
    one = case(mask(slice(0, 16), slice(0, 28)) | mask(slice(16, 20), slice(0, 16)))
    method = as_method("leave-one-out")
    attribution = one.attribution(method)
    found = as_measure("ground-truth").of(one, attribution, method)
    positive = attribution.scores.double().clamp(min=0)
    heat = positive.reshape(4, 4).repeat_interleave(8, 0).repeat_interleave(8, 1) / 64
    seen = torch.zeros(32, 32, dtype=torch.bool)
    seen[:8, :14] = seen[8:10, :8] = True
    assert_close(found["rma"], float(heat[seen].sum() / heat.sum()))
    assert found["pg1"] == float(int(attribution.scores.argmax()) in (0, 1))
    order = attribution.scores.argsort(descending=True).tolist()
    assert found["probes"] == min(order.index(0), order.index(1))
    assert found["rra"] == len({*order[:2]} & {0, 1}) / 2


def test_curves_remove_patches_by_their_relevance() -> None:
    one = Case(explainer(), Item(id="one", prompt=picture(), target=1), masker="blur")
    method = Random(seed=1)
    attribution = one.attribution(method)
    found = as_measure("perturbation-curves(steps=4)").of(one, attribution, method)
    value = one.task.prompts[0].inputs["pixel_values"]
    blurred = Blur().of(value[0].permute(1, 2, 0)).permute(2, 0, 1)[None]
    curves = []
    for order in (attribution.scores.argsort(descending=True), attribution.scores.argsort()):
        curve = []
        for count in (0, 4, 8, 12, 16):
            changed = value.clone()
            for patch in order[:count].tolist():
                r, c = divmod(patch, 4)
                place = ..., slice(8 * r, 8 * r + 8), slice(8 * c, 8 * c + 8)
                changed[place] = blurred[place]
            with torch.no_grad():
                curve.append(float(model().model(pixel_values=changed).logits[0, 1]))
        curves.append(curve)
    assert_close(torch.tensor(found["morf"]), torch.tensor(curves[0]))
    assert_close(torch.tensor(found["lerf"]), torch.tensor(curves[1]))
    areas = [np.trapezoid(curve, dx=0.25) for curve in curves]
    assert abs(found["abpc"] - (areas[1] - areas[0])) < 1e-6


@pytest.mark.parametrize("regions", ["patches", 16])
def test_a_whole_run_on_images_has_every_number(regions: Any) -> None:
    items = [
        Item(id="a", prompt=picture(), truth=mask(slice(0, 32), slice(0, 32)), regions=regions),
        Item(id="b", prompt=picture()[:, ::-1].copy(), target=0, regions=regions),
    ]
    measures = ("perturbation-curves", "comprehensiveness-sufficiency", "leave-one-out-agreement", "ground-truth")
    found = explainer().evaluate(
        items,
        methods=["gradient", "leave-one-out"],
        measures=[*measures, "infidelity"],
        masker="blur",
        progress=False,
    )
    rows = list(found.rows)
    assert len(rows) == 6
    for row in rows:
        assert row.refused is None
        assert row.players == (16 if regions == "patches" else 4)
        assert ("rma" in row.values) == (row.item == "a")
        assert isinstance(row.values["abpc"], float)
        assert isinstance(row.values["infidelity"], float)
    own = next(row for row in rows if row.method == "leave-one-out")
    assert own.values["loo_pearson"] is not None
    assert own.values["loo_pearson"] < 1 - 1e-9  # the method has the mean colour, the measure a blur


def test_words_beside_the_image_have_no_part_in_its_truth() -> None:
    clip = model("clip", "zero_shot_image_classification")
    one = Case(Explainer(clip.model), Item(id="pair", prompt=clip.inputs, truth=mask(slice(0, 8), slice(0, 8), 32)))
    assert one.task.targets[0].label == "similarity"
    truth = one.truth
    assert truth.nonzero().flatten().tolist() == [0]
    method = as_method("leave-one-out")
    attribution = one.attribution(method)
    found = as_measure("ground-truth").of(one, attribution, method)
    patches = attribution.scores[:16].double().clamp(min=0)
    assert_close(found["rma"], float(patches[0] / patches.sum()))
    assert found["probes"] == float((attribution.scores[:16] > attribution.scores[0]).sum())


def test_a_mask_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ApportionError, match="do not fit"):
        _ = case(mask(slice(0, 8), slice(0, 8), 48)).truth
    with pytest.raises(ApportionError, match="is true nowhere"):
        _ = case(mask(slice(0, 0), slice(0, 0))).truth
    with pytest.raises(ApportionError, match="of true and false"):
        _ = case(picture()[..., 0]).truth
    tensors = Item(id="tensors", prompt=model().inputs, truth=mask(slice(0, 8), slice(0, 8)))
    with pytest.raises(ApportionError, match="give the image itself"):
        _ = Case(explainer(), tensors).truth
    with pytest.raises(ApportionError, match="its prompt is a ndarray"):
        _ = case(((0, 3),)).truth


def test_a_file_names_pictures_and_masks(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "dog.png")
    truth = mask(slice(0, 16), slice(0, 32))
    Image.fromarray(truth).save(tmp_path / "dog-mask.png")
    lines = [
        {"prompt": "dog.png", "target": 1, "truth": "dog-mask.png", "regions": 16},
        {"prompt": {"image": "dog.png", "text": "a dog"}},
    ]
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, lines)))
    first, second = read_items(tmp_path / "items.jsonl")
    assert first.mask is not None
    assert torch.equal(first.mask, torch.from_numpy(truth))
    assert Case(explainer(), first).truth.tolist() == [True, False, False, False]
    assert second.prompt == {"image": str(tmp_path / "dog.png"), "text": "a dog"}
    assert write_items([second, Item(id="c", prompt=first.prompt, regions=8)], tmp_path / "again.jsonl") == 2
    again = list(read_items(tmp_path / "again.jsonl"))
    assert again[0].prompt == second.prompt
    assert again[1].regions == 8
    with pytest.raises(ApportionError, match="its truth is a mask"):
        write_items([first], tmp_path / "third.jsonl")
    with pytest.raises(ApportionError, match="its prompt is a ndarray"):
        write_items([Item(id="d", prompt=picture())], tmp_path / "third.jsonl")
    (tmp_path / "wrong.jsonl").write_text(json.dumps({"prompt": "dog.png", "truth": "no-mask.png"}))
    with pytest.raises(ApportionError, match="line 1: there is no file"):
        list(read_items(tmp_path / "wrong.jsonl"))


def test_items_with_other_images_or_masks_are_not_the_same() -> None:
    truth = mask(slice(0, 8), slice(0, 8))
    one = Item(id="a", prompt=picture(), truth=truth)
    assert fingerprint(one) == fingerprint(Item(id="a", prompt=picture(), truth=truth.copy()))
    assert fingerprint(one) != fingerprint(Item(id="a", prompt=picture() // 2, truth=truth))
    assert fingerprint(one) != fingerprint(Item(id="a", prompt=picture(), truth=~truth))
