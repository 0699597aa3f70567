"""Regions: how images are divided into features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from apportion.core import ApportionError, Feature, FeatureKind

RegionMap = Tensor | NDArray[Any] | Sequence[Sequence[int]]
"""A number or a truth value for each pixel, (height, width)."""

AnyRegions = Literal["patches", "pixels", "visual-tokens"] | int | RegionMap | Mapping[str, RegionMap]
"""`"patches"`, `"pixels"`, `"visual-tokens"`, the side of square cells in pixels, a map of numbers (superpixels), or
masks by name."""

NAMES = ("patches", "pixels", "visual-tokens")

#: The side of square cells in pixels, if a model makes no patches.
CELL = 16


def check_regions(regions: AnyRegions | str) -> None:
    """Reject an invalid division of images.

    Raises:
        ApportionError: It is an unknown name, an impossible side, or an empty mapping.
    """
    if isinstance(regions, str) and regions not in NAMES:
        raise ApportionError(
            f"regions={regions!r} is not known; use {', '.join(map(repr, NAMES))}, a side in pixels such as 16, a map "
            "of region numbers (height × width), or masks by name."
        )
    if isinstance(regions, bool) or (isinstance(regions, int) and regions < 1):
        raise ApportionError(f"regions={regions!r} is no side of a square in pixels; give 1 or more.")
    if isinstance(regions, Mapping) and not regions:
        raise ApportionError("regions is an empty mapping; give masks by name.")


def grid(height: int, width: int, cell: tuple[int, int]) -> tuple[Int[Tensor, "height width"], int, int]:
    """The number of its cell for each pixel, row by row, and how many rows and columns there are.

    Cells at the lower and right edge are smaller if the image's size is no multiple of the cell's.
    """
    rows, columns = -(-height // cell[0]), -(-width // cell[1])
    down, across = torch.arange(height) // cell[0], torch.arange(width) // cell[1]
    return down[:, None] * columns + across, rows, columns


def grid_labels(rows: int, columns: int, kind: FeatureKind = "patch") -> list[str]:
    """The names of a grid's cells, row by row."""
    return [f"{kind} {row},{column}" for row in range(rows) for column in range(columns)]


def divided(
    regions: AnyRegions, size: tuple[int, int], cell: tuple[int, int] | None
) -> tuple[Int[Tensor, "height width"], list[str], FeatureKind]:
    """The regions of an image: each pixel's region, -1 for none; the regions' labels; and their kind.

    Args:
        regions: As in `Explainer.explain`; maps and masks must have the image's size.
        size: Height and width of the image.
        cell: Height and width of the model's patches, if it makes any.

    Raises:
        ApportionError: The regions do not fit the image.
    """
    height, width = size
    if isinstance(regions, Mapping):
        return _masks(regions, size)
    if isinstance(regions, str):
        chosen = (1, 1) if regions == "pixels" else cell or (CELL, CELL)
    elif isinstance(regions, int):
        chosen = (regions, regions)
    else:
        return _numbered(regions, size)
    owner, rows, columns = grid(height, width, chosen)
    kind: FeatureKind = "pixel" if chosen == (1, 1) else "patch"
    return owner, grid_labels(rows, columns, kind), kind


def region_features(
    labels: list[str], kind: FeatureKind, *, image: int, first: int = 0, part: str = "image"
) -> tuple[Feature, ...]:
    """Features of the regions of the picture `image`, numbered from `first`."""
    numbered = enumerate(labels, first)
    return tuple(Feature(label=label, kind=kind, positions=(k,), part=part, image=image) for k, label in numbered)


def _masks(masks: Mapping[str, RegionMap], size: tuple[int, int]) -> tuple[Tensor, list[str], FeatureKind]:
    owner = torch.full(size, -1)
    for k, (name, mask) in enumerate(masks.items()):
        inside = torch.as_tensor(mask).bool()
        if tuple(inside.shape) != size:
            raise ApportionError(
                f"the mask {name!r} has the size {tuple(inside.shape)}; the image has {size} (height, width)."
            )
        if not bool(inside.any()):
            raise ApportionError(f"the mask {name!r} is empty.")
        taken = owner[inside & (owner >= 0)]
        if len(taken):
            raise ApportionError(f"the masks {name!r} and {list(masks)[int(taken[0])]!r} overlap; they must not.")
        owner[inside] = k
    labels = list(masks)
    if bool((owner < 0).any()):
        owner[owner < 0] = len(labels)
        labels.append("(the rest)")
    return owner, labels, "region"


def _numbered(regions: RegionMap, size: tuple[int, int]) -> tuple[Tensor, list[str], FeatureKind]:
    numbers = torch.as_tensor(regions)
    if tuple(numbers.shape) != size or numbers.is_floating_point():
        raise ApportionError(
            f"regions is a map of shape {tuple(numbers.shape)} and type {numbers.dtype}; give whole numbers of the "
            f"image's size {size} (height, width)."
        )
    found, owner = numbers.unique(return_inverse=True)
    return owner, [f"region {number}" for number in found.tolist()], "region"
