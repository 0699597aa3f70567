"""A region of a diffusion transformer's output, as a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.targets import Computed


@dataclass(frozen=True, eq=False)
class Region(Computed):
    """The output of one denoising step in a region, measured along a direction.

    Args:
        mask: The region, (row, column) on the grid of patches, or (height, width) if the output is a picture;
            boolean, or weights. None for the whole picture.
        direction: The direction, in the output's shape, such as the prompt's effect on it. None for the output's own
            direction in the region, so that the value is its norm there.
        label: The name in results.
    """

    mask: Tensor | None = None
    direction: Tensor | None = None
    label: str = "region"
    unit: str = "output"

    def values(self, output: Any, prompts: Sequence[Any]) -> Float[Tensor, " examples"]:
        """The sum over the region of output · direction.

        Raises:
            ApportionError: Mask or direction have the wrong shape, or the output is 0 in the region.
        """
        found = output[0] if isinstance(output, tuple) else output.sample
        prompt = prompts[0]
        latents, grid = prompt.inputs["hidden_states"], prompt.continuous_inputs[0].patches
        seen = found.detach()
        if found.ndim == 4 and found.shape[1] == 2 * latents.shape[1]:  # the output has variances as well
            seen = seen * (torch.arange(found.shape[1], device=found.device) < latents.shape[1])[:, None, None]
        weight = self._weights(seen, *grid)
        return (found * (weight * self._along(seen, weight))).flatten(1).sum(1)

    def _weights(self, found: Tensor, rows: int, columns: int) -> Tensor:
        """The region in the output's shape: 1 where it is explained."""
        if self.mask is None:
            return torch.ones_like(found)
        given = self.mask.to(found)
        if found.ndim == 4:
            height, width = found.shape[-2:]
            if given.shape == (rows, columns):
                given = given.repeat_interleave(height // rows, 0).repeat_interleave(width // columns, 1)
            fits, shape = f"({rows}, {columns}) or ({height}, {width})", (height, width)
        else:
            fits, shape = f"({rows}, {columns})", (rows, columns)
        if given.shape != shape:
            raise ApportionError(f"the region is {tuple(self.mask.shape)}; this picture's grid is {fits}.")
        if not bool((given != 0).any()):
            raise ApportionError("the region is empty; mark at least one patch of it.")
        return given.expand_as(found) if found.ndim == 4 else given.flatten()[None, :, None].expand_as(found)

    def _along(self, found: Tensor, weight: Tensor) -> Tensor:
        if self.direction is None:
            inside = found * weight
            norm = inside.norm()
            if norm == 0:
                raise ApportionError("the output is 0 in the region, and has no direction of its own; give direction=.")
            return inside / norm
        if self.direction.shape != found.shape:
            raise ApportionError(
                f"the direction is {tuple(self.direction.shape)}, the output {tuple(found.shape)}; give its shape."
            )
        return self.direction.to(found)
