"""Variants: changed inputs of a model, such as with tokens removed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import nn

from apportion.models.inputs import Prompt


class Change(ABC):
    """A change inside the model's computation, such as tokens removed from its sequence."""

    @property
    @abstractmethod
    def kind(self) -> Hashable:
        """Examples whose changes have the same kind run together."""

    @abstractmethod
    def applied_to(self, model: nn.Module, changes: Sequence[Change]) -> AbstractContextManager[Any]:
        """The model with the changes of a batch, one per example and all of this kind; restored at the end."""


@dataclass(frozen=True)
class Variant:
    """A changed example, such as one with tokens removed.

    Args:
        prompt: The changed prompt.
        rows: For each target, the rows of the output to read.
        change: A change inside the model's computation, if any.
        kept: For each feature of the prompt, the index of the original one, or -1 for a new one; None if they are the
            original features.
    """

    prompt: Prompt
    rows: Sequence[tuple[int, ...]]
    change: Change | None = None
    kept: tuple[int, ...] | None = None
