"""A method: one way to compute each feature's share of a target."""

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
    """A method's result for a task of several examples and targets.

    Args:
        scores: For each example, the shares by target and feature.
        position_scores: The same for position embeddings, if the model has separate ones.
        ledger: The accounts, if there is one example.
        standard_errors: For each example, the standard error of each score, if the method samples.
        features: For each example the features of the scores, if they are not the prompt's own, such as words.
        options: The method's choices for options left to it, for the result's options.
    """

    scores: Sequence[Float[Tensor, "targets _"]]
    position_scores: Sequence[Float[Tensor, "targets _"] | None] | None = None
    ledger: Ledger | None = None
    standard_errors: Sequence[Float[Tensor, "targets _"] | None] | None = None
    features: Sequence[tuple[Feature, ...]] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def joined(cls, alone: Sequence[Shares]) -> Shares:
        """The shares of tasks of one example each as those of one task; of several, no ledger is kept."""
        if len(alone) == 1:
            return alone[0]
        return cls(
            scores=[shares.scores[0] for shares in alone],
            position_scores=[None if s.position_scores is None else s.position_scores[0] for s in alone],
            standard_errors=[None if s.standard_errors is None else s.standard_errors[0] for s in alone],
            options=alone[0].options,
        )


@dataclass(frozen=True, kw_only=True)
class About:
    """A method's properties, for the table of methods.

    Args:
        family: How it computes shares.
        conserves: Whether its scores sum to the target: `"exactly"` (scores and the other lines of the ledger),
            `"with a remainder"` that the ledger names, or `"no"`: the scores only rank features.
        cost: Its cost in passes of the model, for n tokens, in words.
        source: The paper.
    """

    family: Family
    conserves: Conserves
    cost: str
    source: str


class Method(ABC):
    """One way to compute shares; a subclass defines `attribute`, and `@register` makes it usable by name.

    Options are the fields of a frozen, keyword-only dataclass.
    """

    name: str
    about: ClassVar[About] = About(family="own", conserves="no", cost="", source="")

    @property
    def options(self) -> Mapping[str, Any]:
        """The options that the result records, JSON-ready."""
        if not is_dataclass(self):
            return {}
        return {f.name: _jsonable(getattr(self, f.name)) for f in fields(self) if f.init}

    @property
    def detail(self) -> bool:
        """Whether the method needs a trace of all modules, not only of layers."""
        return False

    @property
    def summands(self) -> bool:
        """Whether the method needs the summands of residual sums, which the first forward pass can keep."""
        return False

    @abstractmethod
    def attribute(self, task: AttributionTask) -> Shares:
        """Compute the shares of a task's targets."""


class OneByOne(Method):
    """A method that explains one example at a time; a subclass defines `alone`."""

    @abstractmethod
    def alone(self, task: AttributionTask) -> Shares:
        """Compute the shares of a task of one example."""

    def attribute(self, task: AttributionTask) -> Shares:
        """Compute the shares of each example in turn."""
        return Shares.joined([self.alone(task.single(b)) for b in range(len(task.prompts))])


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
