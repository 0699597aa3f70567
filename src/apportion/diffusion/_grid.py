"""The grid of patches that a diffusion transformer cuts its picture into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from apportion.core import ApportionError


def patch_grid(transformer: nn.Module, inputs: Mapping[str, Any]) -> tuple[int, int]:
    """Rows and columns of patches, from the latents' shape or, if these are tokens, from their places."""
    latents = inputs.get("hidden_states")
    if isinstance(latents, Tensor) and latents.ndim == 4:
        side = int(getattr(getattr(transformer, "config", None), "patch_size", 1))
        return latents.shape[-2] // side, latents.shape[-1] // side
    places = inputs.get("img_ids")
    if isinstance(latents, Tensor) and latents.ndim == 3 and isinstance(places, Tensor) and places.shape[-1] == 3:
        places = places[0] if places.ndim == 3 else places
        rows, columns = (int(places[:, axis].unique().numel()) for axis in (1, 2))
        if rows * columns == latents.shape[1]:
            return rows, columns
    raise ApportionError(
        "the picture's rows and columns cannot be told from the inputs; give hidden_states as (batch, channel, height, "
        "width), or as tokens with img_ids that place each in a full grid, as the model's own pipeline does."
    )


def patch_of_pixel(size: Sequence[int], rows: int, columns: int) -> Int[Tensor, "height width"]:
    """For each pixel of a picture of this height and width, the number of its patch."""
    height, width = size
    down, across = torch.arange(height) * rows // height, torch.arange(width) * columns // width
    return (down[:, None] * columns + across).to(torch.int32)
