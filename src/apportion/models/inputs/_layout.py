"""A layout: which pixel of which image each element of a model's input is."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from apportion.core import ApportionError


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The places of the elements of an input of images.

    Args:
        place: For each element the number of its pixel, counted over all images in turn; -1 for padding. Axes along
            which it does not change have length 1.
        channel: For each element its channel, likewise.
        sizes: Height and width of each image.
        cell: Height and width in pixels of the model's patches, if it makes any.
        batched: Whether the first axis is that of examples.
    """

    place: Tensor
    channel: Tensor
    sizes: tuple[tuple[int, int], ...]
    cell: tuple[int, int] | None
    batched: bool = True

    @property
    def starts(self) -> list[int]:
        """For each image the number of its first pixel."""
        return [0, *accumulate(height * width for height, width in self.sizes)][:-1]

    def images(self, values: Tensor) -> list[Float[Tensor, "height width channel"]]:
        """An input's values as images."""
        indices = (index.to(values.device).expand(values.shape) for index in (self.place, self.channel))
        place, channel = (index.reshape(-1) for index in indices)
        pixels = sum(height * width for height, width in self.sizes)
        channels = int(channel.max()) + 1
        continuous = values.new_zeros(pixels + 1, channels)
        continuous[place, channel] = values.reshape(-1)
        return [
            continuous[start : start + height * width].reshape(height, width, channels)
            for start, (height, width) in zip(self.starts, self.sizes, strict=True)
        ]


def layout_of(model: nn.Module, name: str, inputs: dict[str, Any]) -> Layout:
    """The layout of one of the model's inputs of images.

    Args:
        model: The model.
        name: The name of the input.
        inputs: All inputs of one example, since some contain the shapes of others.

    Raises:
        ApportionError: The input's shape has no known layout.
    """
    value = inputs[name]
    cell = patch_cell(model, value)
    grid = inputs.get("image_grid_thw")
    if value.ndim == 2 and isinstance(grid, Tensor):
        return _merged_rows(model, value, grid)
    shapes = inputs.get("spatial_shapes")
    if value.ndim == 3 and isinstance(shapes, Tensor):
        return _rows(model, value, shapes)
    if value.ndim in (4, 5) and value.shape[-3] in (1, 3, 4):
        return _planes(value, cell)
    raise ApportionError(
        f"{name!r} has the shape {tuple(value.shape)}; images are known as (1, channel, height, width), as tiles "
        "(1, tile, channel, height, width), or as rows of patches with 'image_grid_thw' or 'spatial_shapes'."
    )


def patch_cell(model: nn.Module, value: Tensor) -> tuple[int, int] | None:
    """Height and width of the model's patches: the kernel of the first convolution that does not overlap itself."""
    channels = value.shape[-3] if value.ndim >= 4 else None
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d) and channels in (None, module.in_channels):
            kernel, stride = module.kernel_size[-2:], module.stride[-2:]
            return (int(kernel[0]), int(kernel[1])) if kernel == stride and min(kernel) > 1 else None
    found = _setting(model, "patch_size")
    return (found, found) if isinstance(found, int) else None


def _planes(value: Tensor, cell: tuple[int, int] | None) -> Layout:
    """(image, channel, height, width), or tiles of one image; each tile is an image of its own."""
    *lead, channels, height, width = value.shape
    count = prod(lead)
    place = torch.arange(count * height * width).reshape(*lead, 1, height, width)
    channel = torch.arange(channels).reshape(*[1] * len(lead), channels, 1, 1)
    return Layout(place=place, channel=channel, sizes=((height, width),) * count, cell=cell, batched=len(value) == 1)


def _merged_rows(model: nn.Module, value: Tensor, grid: Tensor) -> Layout:
    """Rows of patches in the order of the merged windows, (time, row, column, row in it, column in it)."""
    side, merge = int(_setting(model, "patch_size")), int(_setting(model, "spatial_merge_size") or 1)
    frames = int(_setting(model, "temporal_patch_size") or 1)
    channels = value.shape[1] // (frames * side * side)
    places, sizes, start = [], [], 0
    for time, rows, columns in grid.tolist():
        height, width = rows * side, columns * side
        pixel = start + torch.arange(time * height * width).reshape(time, height, width)
        windows = pixel.reshape(time, rows // merge, merge, side, columns // merge, merge, side)
        places.append(windows.permute(0, 1, 4, 2, 5, 3, 6).reshape(time * rows * columns, 1, 1, side * side))
        sizes += [(height, width)] * time
        start += time * height * width
    place = torch.cat(places).expand(-1, channels, frames, -1).reshape(value.shape)
    channel = torch.arange(channels)[:, None].expand(-1, frames * side * side).reshape(1, -1)
    return Layout(place=place, channel=channel, sizes=tuple(sizes), cell=(side * merge, side * merge), batched=False)


def _rows(model: nn.Module, value: Tensor, shapes: Tensor) -> Layout:
    """(image, patch, row · column · channel), padded at the end."""
    side = int(_setting(model, "patch_size"))
    channels = value.shape[2] // (side * side)
    place = torch.full((*value.shape[:2], side * side), -1)
    sizes, start = [], 0
    for image, (rows, columns) in enumerate(shapes.tolist()):
        pixel = start + torch.arange(rows * columns * side * side).reshape(rows, side, columns, side)
        place[image, : rows * columns] = pixel.transpose(1, 2).reshape(rows * columns, side * side)
        sizes.append((rows * side, columns * side))
        start += rows * columns * side * side
    return Layout(
        place=place.repeat_interleave(channels, -1),
        channel=torch.arange(channels).repeat(side * side).reshape(1, 1, -1),
        sizes=tuple(sizes),
        cell=(side, side),
        batched=len(value) == 1,
    )


def _setting(model: nn.Module, name: str) -> Any:
    """A field of the model's configuration, or of a nested one for images."""
    config = getattr(model, "config", None)
    found = [config, *(getattr(config, part, None) for part in ("vision_config", "visual_config", "encoder"))]
    return next((getattr(c, name) for c in found if getattr(c, name, None) is not None), None)
