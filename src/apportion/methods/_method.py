"""A method: one way to find the share of a target that each feature gets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from apportion._ledger import Ledger
from apportion._question import Question


@dataclass(frozen=True, kw_only=True)
class Shares:
    """What a method finds for a question of several examples and targets.

    Args:
        scores: For each example, the shares by target and feature.
        position_scores: The same of position embeddings, where they have a place of their own.
        ledger: The accounts, when there is one example.
    """

    scores: list[Float[Tensor, "targets _"]]
    position_scores: list[Float[Tensor, "targets _"] | None]
    ledger: Ledger | None


class Method(ABC):
    """One way to find shares."""

    name: str

    @property
    def options(self) -> Mapping[str, Any]:
        """What the result keeps of how it was made, JSON-ready."""
        return {}

    @property
    def detail(self) -> bool:
        """Whether the method needs to tell all modules apart, not only layers."""
        return False

    @abstractmethod
    def attribute(self, question: Question) -> Shares:
        """Find the shares of a question's targets."""
