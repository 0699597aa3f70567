"""A method: one way to find the share of a target that each feature gets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import Feature, Ledger
from apportion.task import AttributionTask

Family = Literal["backward", "forward", "perturbation", "own"]
Conserves = Literal["exactly", "with a remainder", "no"]


@dataclass(frozen=True, kw_only=True)
class Shares:
    """What a method finds for a task of several examples and targets.

    Args:
        scores: For each example, the shares by target and feature.
        position_scores: The same of position embeddings, where they have a place of their own.
        ledger: The accounts, when there is one example.
        standard_errors: For each example, how uncertain each score is, where the method draws samples.
        features: For each example what the scores belong to, where a method divides among others than the prompt's
            own tokens, such as words.
        options: What the method chose where an option leaves it open, for the result's options.
    """

    scores: Sequence[Float[Tensor, "targets _"]]
    position_scores: Sequence[Float[Tensor, "targets _"] | None] | None = None
    ledger: Ledger | None = None
    standard_errors: Sequence[Float[Tensor, "targets _"] | None] | None = None
    features: Sequence[tuple[Feature, ...]] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class About:
    """What a method is, for the table of methods.

    Args:
        family: How it finds shares.
        conserves: Whether its scores sum to the target: `"exactly"` (scores and the other lines of the ledger),
            `"with a remainder"` that the ledger names, or `"no"`: then they rank features, and are no amounts.
        cost: What it costs in passes of the model, for n tokens, in words.
        source: The paper.
    """

    family: Family
    conserves: Conserves
    cost: str
    source: str


class Method(ABC):
    """One way to find shares; a subclass has `attribute`, and `@register` makes it usable by name.

    Options are the fields of a frozen, keyword-only dataclass.
    """

    name: str
    about: ClassVar[About] = About(family="own", conserves="no", cost="", source="")

    @property
    def options(self) -> Mapping[str, Any]:
        """What the result keeps of how it was made, JSON-ready."""
        if not is_dataclass(self):
            return {}
        return {f.name: _jsonable(getattr(self, f.name)) for f in fields(self) if f.init}

    @property
    def detail(self) -> bool:
        """Whether the method needs to tell all modules apart, not only layers."""
        return False

    @property
    def summands(self) -> bool:
        """Whether the method needs the summands of residual sums, which the first forward pass can keep."""
        return False

    @abstractmethod
    def attribute(self, task: AttributionTask) -> Shares:
        """Find the shares of a task's targets."""


def _jsonable(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return value.tolist() if value.numel() <= 64 else f"tensor of shape {tuple(value.shape)}"
    if isinstance(value, torch.dtype | torch.device):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return str(getattr(value, "name", value))
