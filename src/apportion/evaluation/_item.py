"""An item: one prediction to explain, with what is known about its true cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from apportion.core import ApportionError
from apportion.models.inputs import AnyRegions
from apportion.targets import AnyTarget, TargetLike, Unit, as_targets

Region = tuple[int, int]
"""From a character of the prompt's text up to another, which is not included."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One prediction to explain.

    Args:
        id: Its name, by which a run that goes on knows what is done; each item's is different.
        prompt: As `Explainer.explain` takes it; a text, or with an image, where `truth` is given.
        target: As there; so are `contrast`, `unit` and `position`.
        contrast: See there.
        unit: See there.
        position: See there.
        truth: Where in the prompt's text the cause stands, such as a verb's subject; or a mask of the prompt's image,
            (height, width), true where the cause is seen, of the size of the image as it was given (or as the model
            sees it); empty where it is not known.
        regions: How images are divided, as in `Explainer.explain`.
        groups: What a summary may be broken down by, such as the number of attractors.
    """

    id: str
    prompt: Any
    target: TargetLike | None = None
    contrast: str | int | tuple[str | int, ...] | None = None
    unit: Unit = "logit"
    position: int | str | None = None
    truth: tuple[Region, ...] | Any = ()
    regions: AnyRegions = "patches"
    groups: Mapping[str, str | int | bool] = field(default_factory=dict)

    @property
    def has_truth(self) -> bool:
        """Whether it says where the cause stands."""
        return self.mask is not None or bool(self.truth)

    @property
    def mask(self) -> Bool[Tensor, "height width"] | None:
        """Where in the image the cause is seen; None where `truth` tells of a text, or of nothing.

        Raises:
            ApportionError: It is neither places in a text nor a mask, or the mask is empty.
        """
        if isinstance(self.truth, tuple | list):
            return None
        mask = torch.as_tensor(self.truth)
        if mask.ndim != 2 or mask.dtype != torch.bool:
            raise ApportionError(
                f"the truth of the item {self.id!r} has the shape {tuple(mask.shape)} and type {mask.dtype}; give "
                "places in a text as tuples, or a mask of the image (height, width) of true and false."
            )
        if not bool(mask.any()):
            raise ApportionError(f"the mask of the item {self.id!r} is true nowhere, so it shows no cause.")
        return mask

    @property
    def asked(self) -> AnyTarget:
        """The target as `explain` takes it."""
        (target,) = as_targets(self.target, self.contrast, self.unit, self.position)
        return target
