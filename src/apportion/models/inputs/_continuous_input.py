"""A continuous input of the model, such as an image's pixels, and the feature of each of its elements."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import Feature, Picture


@dataclass(frozen=True, kw_only=True)
class ContinuousInput:
    """One continuous input, divided into features.

    Args:
        name: The name of the model's input, such as `"pixel_values"`; or `"visual tokens"`, if relevance ends there.
        owner: For each element of the input (of one example) the number of its feature, -1 for none; axes along which
            it does not change have length 1. Without axes, all elements are one feature.
        features: The features, in the order of these numbers.
        pictures: The pictures to display.
        line: The line of the ledger, such as `"image"`.
        patches: Rows and columns of the model's own grid, if it has one image and one grid.
        batched: Whether the input's first axis is that of examples; then `owner` has length 1 there.
    """

    name: str
    owner: Tensor
    features: tuple[Feature, ...]
    pictures: tuple[Picture, ...] = ()
    line: str = "image"
    patches: tuple[int, int] | None = None
    batched: bool = True

    @property
    def count(self) -> int:
        """The number of features."""
        return len(self.features)

    def summed(self, amounts: Float[Tensor, "targets ..."]) -> Float[Tensor, "targets feature"]:
        """The sum over each feature's elements of amounts in the shape of the input of one example."""
        owner = self.owner.to(amounts.device)
        if owner.ndim == 0:
            amounts = amounts.flatten(1).sum(1, keepdim=True)
        same = [k + 1 for k, length in enumerate(owner.shape) if length == 1 and amounts.shape[k + 1] > 1]
        if same:
            amounts = amounts.sum(same, keepdim=True)
        flat, places = amounts.reshape(len(amounts), -1), owner.reshape(-1)
        padded = flat.new_zeros(len(flat), self.count + 1).index_add(1, places % (self.count + 1), flat)
        return padded[:, :-1]

    def present(self, features: Tensor) -> Tensor:
        """For each element, in the shape of `owner`, whether its feature is present; True if it has none."""
        padded = torch.cat([features, features.new_ones(1)])
        return padded.to(self.owner.device)[self.owner]
