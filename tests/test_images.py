"""Images as inputs: what users give, how they are divided, and where their shares go."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, Qwen2VLImageProcessorPil, ViTImageProcessorPil

import apportion as ap
from apportion.models.inputs._continuous_input import ContinuousInput
from apportion.models.inputs._images import as_image, processed_map
from apportion.models.inputs._layout import layout_of
from apportion.relevance import ATTNLRP, RES_LRP, record
from tests.architectures import TinyModel, build
from tests.checking import unchecked

SIDE = 32


@cache
def tiny(name: str, task: Any = "image_classification") -> TinyModel:
    return build(task, name)


def photo(width: int = 50, height: int = 40, seed: int = 0) -> Image.Image:
    """A smooth picture with colours all over."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8), "RGB")
    return small.resize((width, height), Image.Resampling.BICUBIC)


def processor() -> ViTImageProcessorPil:
    return ViTImageProcessorPil(size={"height": SIDE, "width": SIDE})


def explainer(name: str = "vit") -> ap.Explainer:
    return ap.Explainer(tiny(name).model, processor())


def plain_relevance(name: str) -> tuple[Tensor, Tensor]:
    """Relevance of every element of the pixels for the largest logit, straight from the engine."""
    built = tiny(name)
    trace = record(built.model, built.inputs, detail=False)
    logits = trace.output.logits
    seed = torch.zeros(1, *logits.shape, dtype=logits.dtype)
    seed[0, 0, int(logits.argmax())] = 1
    return trace.propagate(logits, seed, RES_LRP).relevance["pixel_values"][0, 0], logits.detach().max()


@pytest.mark.parametrize("name", ["vit", "dinov2", "swin", "beit"])
def test_a_patchs_share_is_the_sum_over_its_pixels(name: str) -> None:
    pixels, total = plain_relevance(name)
    found = ap.Explainer(tiny(name).model).explain(tiny(name).inputs)
    owner = found.pictures[0].owner
    by_hand = [pixels[:, owner == k].sum() for k in range(len(found.features))]
    assert torch.allclose(found.scores, torch.stack(by_hand), atol=1e-12)
    assert found.target.value == pytest.approx(float(total))
    assert found.method == "res-lrp"


def test_any_division_of_an_image_divides_the_same_amount() -> None:
    image = photo()
    numbers = np.zeros((40, 50), dtype=int)
    numbers[:, 25:] = 7
    numbers[30:] = 300
    masks = {"left": numbers == 0, "right": numbers == 7}
    sums = [
        explainer().explain(image, regions=regions).scores.sum().item()
        for regions in ("patches", "pixels", 5, numbers, masks)
    ]
    assert sums == pytest.approx([sums[0]] * 5, abs=1e-12)
    assert sums[0] != pytest.approx(0, abs=1e-3)


def test_regions_hold_the_shares_of_the_pixels_that_the_map_gives_them() -> None:
    image, numbers = photo(64, 64), np.zeros((64, 64), dtype=int)
    numbers[10:30, 20:44] = 1
    by_pixel = explainer().explain(image, regions="pixels").scores.reshape(SIDE, SIDE)
    found = explainer().explain(image, regions={"thing": numbers == 1})
    inside = torch.as_tensor(np.asarray(Image.fromarray(numbers.astype(np.uint8)).resize((SIDE, SIDE), 0)) == 1)
    assert [f.label for f in found.features] == ["thing", "(the rest)"]
    assert found.scores[0].item() == pytest.approx(by_pixel[inside].sum().item(), abs=1e-12)
    assert torch.equal(found.pictures[0].owner == 0, inside)


def test_masks_are_cut_as_the_processor_cuts_the_image() -> None:
    crops = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 24, "width": 24})
    width, height = 64, 48
    across = np.tile(np.arange(width) // 16, (height, 1))
    image = Image.fromarray(np.repeat((across * 60).astype(np.uint8)[..., None], 3, -1), "RGB")
    moved = processed_map(across, image, crops)
    seen = crops(images=image, return_tensors="pt", do_rescale=False, do_normalize=False, resample=0)["pixel_values"]
    assert moved.shape == (24, 24)
    assert torch.equal(moved, (seen[0, 0] / 60).round().long())


def test_region_numbers_beyond_a_byte_survive_the_processor() -> None:
    numbers = np.arange(32 * 32).reshape(32, 32) * 70
    assert torch.equal(processed_map(numbers, photo(32, 32), processor()), torch.as_tensor(numbers))


@pytest.mark.parametrize("size", [(56, 56), (84, 56)])
def test_rows_of_merged_patches_are_put_back_in_their_places(size: tuple[int, int]) -> None:
    processor = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=28 * 28 * 64)
    image = photo(*size)
    inputs = dict(processor(images=image, return_tensors="pt"))
    model = nn.Module()
    model.config = type("C", (), {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2})()  # type: ignore[assignment]
    layout = layout_of(model, "pixel_values", inputs)
    mean, deviation = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
    (found,) = layout.images(inputs["pixel_values"])
    assert layout.cell == (28, 28)
    assert torch.allclose((found * deviation + mean) * 255, torch.as_tensor(np.array(image)).float(), atol=0.01)


def test_a_canvas_sums_what_its_elements_have() -> None:
    owner = torch.tensor([[0, 1, -1], [1, 1, 0]])[None, None]
    features = tuple(ap.Feature(label=str(k), kind="patch", positions=(k,)) for k in range(2))
    continuous = ContinuousInput(name="pixel_values", owner=owner, features=features)
    amounts = torch.arange(24.0).reshape(2, 1, 2, 2, 3)
    by_hand = [[sum(amounts[t, 0, :, owner[0, 0] == k].flatten().tolist()) for k in range(2)] for t in range(2)]
    assert continuous.summed(amounts).tolist() == by_hand
    present = continuous.present(torch.tensor([False, True]))
    assert present[0, 0].tolist() == [[False, True, True], [True, True, False]]


@pytest.mark.parametrize("name", ["vit", "dinov2_with_registers", "deit"])
def test_special_tokens_are_a_line_of_the_ledger(name: str) -> None:
    built = tiny(name)
    found = ap.Explainer(built.model).explain(built.inputs, method="attnlrp")
    trace = record(built.model, built.inputs)
    logits = trace.output.logits
    seed = torch.zeros(1, *logits.shape, dtype=logits.dtype)
    seed[0, 0, int(logits.argmax())] = 1
    relevance = trace.propagate(logits, seed, ATTNLRP).relevance
    own = [amount.sum() for path, amount in relevance.items() if path.endswith(("_token", "_tokens"))]
    assert own
    assert found.ledger.lines["special tokens"].item() == pytest.approx(sum(own).item(), abs=1e-12)  # type: ignore[union-attr]
    assert found.ledger.lines["image"].item() == pytest.approx(found.scores.sum().item(), abs=1e-12)  # type: ignore[union-attr]
    assert found.ledger.relative_residual.item() < 1e-9  # type: ignore[union-attr]


def test_a_batch_of_images_is_explained_as_each_alone() -> None:
    images = [photo(seed=seed) for seed in range(3)]
    together = explainer().explain_many(images, batch_size=3)
    alone = [explainer().explain(image) for image in images]
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one.scores, other.scores, atol=1e-12)
        assert torch.equal(one.pictures[0].pixels, other.pictures[0].pixels)


def test_every_form_of_an_image_is_the_same_image(tmp_path: Path) -> None:
    image = photo()
    image.save(tmp_path / "photo.png")
    array = np.asarray(image)
    tensor = torch.as_tensor(array.copy()).permute(2, 0, 1)
    forms = [image, array, tensor, array / 255, str(tmp_path / "photo.png"), tmp_path / "photo.png"]
    assert all(np.array_equal(np.asarray(as_image(form)), array) for form in forms)
    scores = [explainer().explain(form).scores for form in forms]
    assert all(torch.equal(found, scores[0]) for found in scores)


def test_the_picture_shows_what_the_model_saw() -> None:
    image = photo(64, 48)
    found = explainer().explain(image)
    expected = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(found.pictures[0].pixels.numpy().astype(int) - expected).max() <= 1


def test_pictures_survive_saving(tmp_path: Path) -> None:
    found = explainer().explain(photo(), regions=8)
    found.save(tmp_path / "a.safetensors")
    loaded = ap.Attribution.load(tmp_path / "a.safetensors")
    assert torch.equal(loaded.pictures[0].pixels, found.pictures[0].pixels)
    assert torch.equal(loaded.pictures[0].owner, found.pictures[0].owner)
    assert loaded.features == found.features
    assert loaded.pictures[0].label == "image"


def test_painting_lays_scores_over_the_pixels_of_their_features() -> None:
    picture = ap.Picture(
        pixels=torch.zeros(1, 3, 3, dtype=torch.uint8), owner=torch.tensor([[1, 0, -1]], dtype=torch.int32)
    )
    painted = picture.painted(torch.tensor([0.5, -2.0]))
    assert painted[0, :2].tolist() == [-2.0, 0.5]
    assert bool(painted[0, 2].isnan())


@pytest.mark.parametrize("of", ["pooled", "cls", "mean", 5, (1, 2)])
@pytest.mark.parametrize("name", ["dinov2", "vit"])
def test_a_cosine_is_conserved_through_its_norm(name: str, of: Any) -> None:
    model = tiny(name).model.base_model
    with torch.no_grad():
        output = model(**tiny(name).inputs)
    hidden = output.last_hidden_state
    if of == "pooled" and getattr(output, "pooler_output", None) is None:
        with pytest.raises(ap.ApportionError, match="no pooled output"):
            ap.Explainer(model).explain(tiny(name).inputs, target=ap.Cosine(torch.ones(hidden.shape[-1]), of=of))
        return
    rows, columns = 4, 4
    patches = hidden[0, -rows * columns :]
    vector = {
        "pooled": hidden[0, 0] if getattr(output, "pooler_output", None) is None else output.pooler_output[0],
        "cls": hidden[0, 0],
        "mean": patches.mean(0),
        5: patches[5],
        (1, 2): patches[6],
    }[of]
    direction = torch.linspace(-1, 1, hidden.shape[-1], dtype=torch.float64)
    found = ap.Explainer(model).explain(tiny(name).inputs, target=ap.Cosine(direction, of=of), method="cp-lrp")
    expected = torch.cosine_similarity(vector, direction, dim=0).item()
    assert found.target.value == pytest.approx(expected)
    assert found.ledger.total.item() == pytest.approx(expected)
    assert found.ledger.relative_residual.item() < 1e-9
    assert found.target.unit == "cosine"


def test_a_cosine_outside_the_graph_would_leave_nothing_to_divide() -> None:
    model, inputs = tiny("dinov2").model.base_model, tiny("dinov2").inputs
    direction = torch.linspace(-1, 1, model.config.hidden_size, dtype=torch.float64)

    def outside(output: Any) -> Tensor:
        return torch.cosine_similarity(output.last_hidden_state[0, 0], direction, dim=0)

    found = ap.Explainer(model).explain(inputs, target=outside, method="cp-lrp")
    kept = found.ledger.lines["target function"].item()
    assert kept == pytest.approx(found.target.value, rel=1e-6)


def test_a_projection_is_a_probes_logit() -> None:
    model, inputs = tiny("dinov2").model.base_model, tiny("dinov2").inputs
    direction = torch.linspace(-1, 1, model.config.hidden_size, dtype=torch.float64)
    found = ap.Explainer(model).explain(
        inputs, target=ap.Projection(direction, of="cls", bias=0.5, label="striped"), method="cp-lrp"
    )
    with torch.no_grad():
        expected = (model(**inputs).last_hidden_state[0, 0] @ direction).item() + 0.5
    assert found.target.value == pytest.approx(expected)
    assert found.target.label == "striped"
    assert found.ledger.relative_residual.item() < 1e-9


def test_several_computed_targets_go_back_together() -> None:
    model, inputs = tiny("dinov2").model.base_model, tiny("dinov2").inputs
    directions = torch.randn(3, model.config.hidden_size, dtype=torch.float64)
    targets = [ap.Cosine(d, of="cls") for d in directions]
    together = ap.Explainer(model).explain(inputs, target=targets, method="attnlrp")
    for one, target in zip(together, targets, strict=True):
        alone = ap.Explainer(model).explain(inputs, target=target, method="attnlrp")
        assert torch.allclose(one.scores, alone.scores, atol=1e-12)


def test_classes_of_images_have_names_and_contrasts() -> None:
    model = tiny("vit").model
    found = explainer().explain(photo(), target="LABEL_0", contrast="LABEL_1", method="cp-lrp")
    with torch.no_grad():
        logits = model(processor()(images=photo(), return_tensors="pt")["pixel_values"].double()).logits[0]
    assert found.target.value == pytest.approx((logits[0] - logits[1]).item())
    assert found.prediction[0][1] == pytest.approx(logits.softmax(-1).max().item(), abs=1e-6)


def damaged(folder: Path) -> Path:
    path = folder / "damaged.png"
    photo().save(path)
    path.write_bytes(path.read_bytes()[:60])
    return path


def test_bad_images_are_refused_in_one_line(tmp_path: Path) -> None:
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (tmp_path / "none.png", {}, "no file"),
        (damaged(tmp_path), {}, "damaged"),
        (np.zeros((4, 4, 7)), {}, "array of shape"),
        (np.full((4, 4, 3), 9.5), {}, "floats from 0 to 1"),
        ({"pixel_values": torch.zeros(1, 32, 32)}, {}, "has the shape"),
        (photo(), {"regions": "squares"}, "not known"),
        (photo(), {"regions": 0}, "1 or more"),
        (photo(), {"regions": np.zeros((3, 3), dtype=int)}, "do not fit"),
        (photo(), {"regions": {"a": np.ones((40, 50)), "b": np.ones((40, 50))}}, "overlap"),
        (photo(), {"regions": {"a": np.zeros((40, 50))}}, "empty"),
        (photo(), {"regions": "visual-tokens"}, "Use 'patches'"),
        (photo(), {"position": 3}, "one output per image"),
        (photo(), {"target": "tiger"}, "there is no class"),
    ]
    state = {k: v.clone() for k, v in tiny("vit").model.state_dict().items()}
    for prompt, options, message in cases:
        with unchecked(), pytest.raises(ap.ApportionError, match=message) as caught:
            explainer().explain(prompt, **options)
        assert "\n" not in str(caught.value)
    assert all(torch.equal(state[k], v) for k, v in tiny("vit").model.state_dict().items())


def test_an_image_of_another_size_than_the_model_takes_is_refused() -> None:
    with pytest.raises(ap.ApportionError, match=r"refuses an input of the shape .*size"):
        ap.Explainer(tiny("vit").model).explain({"pixel_values": torch.zeros(1, 3, 48, 48, dtype=torch.float64)})


def test_an_image_without_a_processor_is_refused() -> None:
    with pytest.raises(ap.ApportionError, match="no image processor"):
        ap.Explainer(tiny("vit").model).explain(photo())


def test_a_direction_of_another_size_is_refused() -> None:
    with pytest.raises(ap.ApportionError, match="the direction has the shape"):
        ap.Explainer(tiny("vit").model.base_model).explain(
            tiny("vit").inputs, target=ap.Cosine(torch.ones(3), of="cls")
        )
    with pytest.raises(ap.ApportionError, match="no patch"):
        ap.Explainer(tiny("vit").model.base_model).explain(
            tiny("vit").inputs, target=ap.Cosine(torch.ones(32, dtype=torch.float64), of=99)
        )


def test_a_backbone_without_a_target_says_what_to_give() -> None:
    with pytest.raises(ap.ApportionError, match="target"):
        ap.Explainer(tiny("vit").model.base_model).explain(tiny("vit").inputs)
