"""A picture: what the model saw of an image or a sound, and which feature each pixel belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image as the model saw it, after its processor has cut and scaled it.

    Args:
        pixels: Red, green and blue.
        owner: For each pixel the number of the feature that it belongs to, which is among that feature's `positions`;
            -1 where it belongs to none.
        label: As the reader should see it, such as `"image"` or `"image 2"`.
    """

    pixels: UInt8[Tensor, "height width 3"]
    owner: Int[Tensor, "height width"]
    label: str = "image"

    def painted(self, scores: Float[Tensor, " number"]) -> Float[Tensor, "height width"]:
        """Scores by number laid over the pixels; NaN where a pixel belongs to no feature."""
        padded = torch.cat([scores, scores.new_full((1,), float("nan"))])
        return padded[self.owner.long()]  # -1 is the last
