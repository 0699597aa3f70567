"""Images of a prompt as continuous inputs, divided into features that come before its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from apportion.core import ApportionError, Feature, Picture
from apportion.models.inputs._continuous_input import ContinuousInput
from apportion.models.inputs._images import named_masks, processed_map, shown
from apportion.models.inputs._layout import Layout, layout_of
from apportion.models.inputs._prompt import Prompt
from apportion.models.inputs._reads import image_token
from apportion.models.inputs._regions import AnyRegions, check_regions, divided, grid, grid_labels, region_features
from apportion.relevance import NAME as VISUAL_TOKENS

#: Inputs that hold images.
IMAGES = ("pixel_values", "other_pixel_values", "pixel_values_videos")


@dataclass(frozen=True)
class ImageContext:
    """The model, its processor, and how the user's images (in the order of the inputs) are divided."""

    model: nn.Module
    processor: Any
    regions: AnyRegions = "patches"
    images: tuple[Any, ...] = ()


def with_continuous_inputs(prompt: Prompt, seen: ImageContext) -> Prompt:
    """The prompt with a continuous input for each input of images, whose features come before those of the tokens.

    Raises:
        ApportionError: The regions do not fit the images.
    """
    check_regions(seen.regions)
    prompt = _with_placeholders(prompt, seen.model)
    continuous_inputs: list[ContinuousInput] = []
    for k, name in enumerate(name for name in IMAGES if isinstance(prompt.inputs.get(name), Tensor)):
        first = sum(len(continuous.pictures) for continuous in continuous_inputs)
        image = seen.images[k] if k < len(seen.images) else None
        continuous_inputs.append(_continuous_input(name, prompt, seen, image, first))
    if not continuous_inputs:
        return prompt
    features = tuple(feature for continuous in continuous_inputs for feature in continuous.features)
    return replace(prompt, continuous_inputs=tuple(continuous_inputs), features=features + prompt.features)


def _with_placeholders(prompt: Prompt, model: nn.Module) -> Prompt:
    token = image_token(model)
    if token is None or next(iter(prompt.parts), None) != "input_ids" or "pixel_values" not in prompt.inputs:
        return prompt
    features = list(prompt.features)
    for i, found in enumerate(prompt.ids):
        if found == token:
            features[i] = replace(features[i], kind="placeholder", template=True)
    return replace(prompt, features=tuple(features))


def _continuous_input(name: str, prompt: Prompt, seen: ImageContext, image: Any, first: int) -> ContinuousInput:
    layout = layout_of(seen.model, name, dict(prompt.inputs))
    images = [shown(one, seen.processor) for one in layout.images(prompt.inputs[name])]
    held = sum(feature.kind == "placeholder" for feature in prompt.features)
    cells = [_cell(layout, size, held) for size in layout.sizes]
    if isinstance(seen.regions, str) and seen.regions == "visual-tokens":
        return _visual_tokens(layout, cells, images, held, seen.model)
    owners: list[Tensor] = []
    features: list[Feature] = []
    for k, size in enumerate(layout.sizes):
        regions, names = _fitted(seen, image, size)
        owner, labels, kind = divided(regions, size, cells[k])
        if names:
            labels = [names[int(label.rpartition(" ")[2])] for label in labels]
        owners.append(torch.where(owner >= 0, owner + len(features), -1))
        features += region_features(labels, kind, image=first + k, first=len(features))
    by_pixel = torch.cat([*(owner.reshape(-1) for owner in owners), torch.tensor([-1])])
    return ContinuousInput(
        name=name,
        owner=by_pixel[layout.place],
        features=tuple(features),
        pictures=_pictures(images, owners, first),
        patches=_own_grid(layout),
        batched=layout.batched,
    )


def _fitted(seen: ImageContext, image: Any, size: tuple[int, int]) -> tuple[AnyRegions, list[str]]:
    """The regions in the size of the model's image, and the names of masks."""
    if isinstance(seen.regions, str | int):
        return seen.regions, []
    numbers, names = named_masks(seen.regions)
    if tuple(numbers.shape) != size and image is not None:
        numbers = processed_map(numbers, image, seen.processor)
    return torch.as_tensor(numbers), names


def _cell(layout: Layout, size: tuple[int, int], held: int) -> tuple[int, int] | None:
    """Height and width of a feature of the grid: the part that a placeholder represents, else a patch."""
    height, width = size
    if held and held % len(layout.sizes) == 0 and layout.cell is not None:
        count = held // len(layout.sizes)
        for rows in range(1, count + 1):
            cell = (height // rows, width // max(1, count // rows))
            whole = rows * (count // rows) == count and height % rows == 0 and width % (count // rows) == 0
            if whole and cell[0] == cell[1] and cell[0] % layout.cell[0] == 0:
                return cell
    return layout.cell


def _own_grid(layout: Layout) -> tuple[int, int] | None:
    if len(layout.sizes) != 1 or layout.cell is None:
        return None
    (height, width), (down, across) = layout.sizes[0], layout.cell
    return height // down, width // across


def _pictures(images: Sequence[Tensor], owners: Sequence[Tensor], first: int) -> tuple[Picture, ...]:
    several = len(images) > 1 or first > 0
    return tuple(
        Picture(pixels=pixels, owner=owner.to(torch.int32), label=f"image {first + k + 1}" if several else "image")
        for k, (pixels, owner) in enumerate(zip(images, owners, strict=True))
    )


def _visual_tokens(
    layout: Layout, cells: Sequence[tuple[int, int] | None], images: Sequence[Tensor], held: int, model: nn.Module
) -> ContinuousInput:
    """Features for visual tokens, with places in the image if they form a grid."""
    if not held:
        raise ApportionError(
            f"regions='visual-tokens' is for models that read an image's tokens among those of a text; "
            f"{type(model).__name__} has no such places in this prompt. Use 'patches'."
        )
    grids = [None if cell is None else grid(*size, cell) for size, cell in zip(layout.sizes, cells, strict=True)]
    counts = [0 if found is None else found[1] * found[2] for found in grids]
    if sum(counts) != held:
        features = tuple(
            Feature(label=f"visual token {k}", kind="patch", positions=(k,), part="image") for k in range(held)
        )
        return ContinuousInput(name=VISUAL_TOKENS, owner=torch.arange(held)[:, None], features=features, batched=False)
    starts = [0, *accumulate(counts)]
    features = tuple(
        feature
        for k, found in enumerate(grids)
        if found is not None
        for feature in region_features(grid_labels(found[1], found[2]), "patch", image=k, first=starts[k])
    )
    owners = [found[0] + starts[k] for k, found in enumerate(grids) if found is not None]
    return ContinuousInput(
        name=VISUAL_TOKENS,
        owner=torch.arange(held)[:, None],
        features=features,
        pictures=_pictures(images, owners, 0),
        patches=(grids[0][1], grids[0][2]) if len(grids) == 1 and grids[0] is not None else None,
        batched=False,
    )
