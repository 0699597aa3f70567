"""A changed input of a model, such as with tokens left out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import nn

from apportion.models.inputs import Prompt


class Change(ABC):
    """A change of what a model computes on its way, such as tokens taken out of its sequence."""

    @property
    @abstractmethod
    def kind(self) -> Hashable:
        """Examples whose changes are of one kind run together."""

    @abstractmethod
    def applied_to(self, model: nn.Module, changes: Sequence[Change]) -> AbstractContextManager[Any]:
        """The model with the changes of a batch, one an example, all of this kind; given back as it was."""


@dataclass(frozen=True)
class Variant:
    """One example changed for the model to read again, such as with tokens left out.

    Args:
        prompt: What the model reads.
        rows: For each target the rows of the output that it reads now.
        change: Of what the model computes with it; None for none.
        kept: Which of the original features each of the prompt's is, -1 for one that was not there; None where the
            prompt has the original ones.
    """

    prompt: Prompt
    rows: Sequence[tuple[int, ...]]
    change: Change | None = None
    kept: tuple[int, ...] | None = None
