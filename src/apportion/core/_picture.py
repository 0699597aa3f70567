"""A picture: an image or a sound as the model saw it, and the feature of each pixel."""

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
        owner: For each pixel the number of its feature, which is among that feature's `positions`; -1 for none.
        label: The name to display, such as `"image"` or `"image 2"`.
    """

    pixels: UInt8[Tensor, "height width 3"]
    owner: Int[Tensor, "height width"]
    label: str = "image"

    def painted(self, scores: Float[Tensor, " number"]) -> Float[Tensor, "height width"]:
        """The score of each pixel's feature; NaN for pixels without a feature."""
        padded = torch.cat([scores, scores.new_full((1,), float("nan"))])
        return padded[self.owner.long()]  # -1 is the last
