"""Attributions: those of several prompts, found as they are gone through."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apportion.core import ApportionError, Saved, Shown, pandas_module
from apportion.results._attribution import Attribution

if TYPE_CHECKING:
    import pandas

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Attributions(Shown, Saved):
    """Attributions of several prompts, in their order; what is not yet known is found when it is asked for.

    `for a in attributions` yields each as soon as it is found, and keeps it. `len`, `failed` and everything that needs
    all of them find the rest first. Prompts that cannot be explained are left out; `failed` says why.

    Args:
        found: The attributions so far, by the numbers of their prompts from 0.
        reasons: Why prompts so far have none, by their numbers.
        coming: For each further prompt its number and its attribution, or the error that says why it has none.
    """

    found: dict[int, Attribution] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    coming: Iterator[tuple[int, Attribution | ApportionError]] = field(
        default_factory=lambda: iter(()), metadata={"saved": False}
    )

    @property
    def failed(self) -> Mapping[int, str]:
        """For each prompt that could not be explained its number, and why."""
        self._finish()
        return dict(self.reasons)

    def items(self) -> Iterator[tuple[int, Attribution]]:
        """The number of each prompt with its attribution."""
        yielded = 0
        while yielded < len(self.found) or self._next():
            new = list(self.found.items())[yielded:]
            yielded += len(new)
            yield from new

    def __iter__(self) -> Iterator[Attribution]:
        """Each attribution, in the order of the prompts."""
        return (attribution for _, attribution in self.items())

    def __len__(self) -> int:
        """How many prompts could be explained."""
        self._finish()
        return len(self.found)

    def __getitem__(self, number: int) -> Attribution:
        """The attribution of a prompt, by its number from 0."""
        while number not in self.found and number not in self.reasons and self._next():
            pass
        if number in self.reasons:
            raise ApportionError(f"prompt {number} has no attribution: {self.reasons[number]}")
        if number not in self.found:
            raise IndexError(f"there is no prompt {number}; {len(self.found) + len(self.reasons)} were given.")
        return self.found[number]

    def to_frame(self) -> pandas.DataFrame:
        """A pandas table with a row per prompt, target and feature; see `Attribution.to_frame`."""
        frames = [one.to_frame().assign(prompt=number) for number, one in self.items()]
        return pandas_module().concat(frames, ignore_index=True) if frames else pandas_module().DataFrame()

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pictures in JSON-ready values, by the numbers of the prompts."""
        self._finish()
        return {
            "attributions": {str(number): one.to_dict() for number, one in self.found.items()},
            "failed": {str(number): reason for number, reason in self.reasons.items()},
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write all of them to one safetensors file; whole or not at all."""
        self._finish()
        return super().save(path)

    def _finish(self) -> None:
        while self._next():
            pass

    def _next(self) -> bool:
        """Take what comes next, up to an attribution; whether there was one."""
        for number, outcome in self.coming:
            if isinstance(outcome, Attribution):
                self.found[number] = outcome
                return True
            self.reasons[number] = str(outcome)
            logger.warning("prompt %d could not be explained: %s", number, outcome)
        return False
