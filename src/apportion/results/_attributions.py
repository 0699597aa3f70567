"""Attributions: those of several prompts, found as they are gone through."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from apportion.core import ApportionError
from apportion.results._attribution import Attribution

if TYPE_CHECKING:
    import pandas

logger = logging.getLogger(__name__)


class Attributions:
    """Attributions of several prompts, in their order; what is not yet known is found when it is asked for.

    `for a in attributions` yields each as soon as it is found, and keeps it. `len`, `failed` and everything that needs
    all of them find the rest first. Prompts that cannot be explained are left out; `failed` says why.

    Args:
        outcomes: For each prompt its number and its attribution, or the error that says why it has none.
    """

    def __init__(self, outcomes: Iterable[tuple[int, Attribution | ApportionError]]) -> None:
        self._coming = iter(outcomes)
        self._found: dict[int, Attribution] = {}
        self._failed: dict[int, str] = {}

    @classmethod
    def of(cls, found: Mapping[int, Attribution], failed: Mapping[int, str] | None = None) -> Attributions:
        """A collection of attributions that are known already, by the numbers of their prompts."""
        made = cls(found.items())
        made._failed = dict(failed or {})
        return made

    @property
    def failed(self) -> Mapping[int, str]:
        """For each prompt that could not be explained its number, and why."""
        self._finish()
        return dict(self._failed)

    def items(self) -> Iterator[tuple[int, Attribution]]:
        """The number of each prompt with its attribution."""
        yielded = 0
        while True:
            if yielded == len(self._found) and not self._next():
                return
            yield from list(self._found.items())[yielded:]
            yielded = len(self._found)

    def __iter__(self) -> Iterator[Attribution]:
        """Each attribution, in the order of the prompts."""
        return (attribution for _, attribution in self.items())

    def __len__(self) -> int:
        """How many prompts could be explained."""
        self._finish()
        return len(self._found)

    def __getitem__(self, number: int) -> Attribution:
        """The attribution of a prompt, by its number from 0."""
        while number not in self._found and number not in self._failed and self._next():
            pass
        if number in self._failed:
            raise ApportionError(f"prompt {number} has no attribution: {self._failed[number]}")
        if number not in self._found:
            raise IndexError(f"there is no prompt {number}; {len(self._found) + len(self._failed)} were given.")
        return self._found[number]

    def to_frame(self) -> pandas.DataFrame:
        """A pandas table with a row per prompt, target and feature; see `Attribution.to_frame`."""
        import pandas

        frames = []
        for number, attribution in self.items():
            frame = attribution.to_frame()
            frame.insert(0, "prompt", number)
            frames.append(frame)
        return pandas.concat(frames, ignore_index=True) if frames else pandas.DataFrame()

    def to_dict(self) -> dict[str, Any]:
        """Everything in JSON-ready values."""
        return {
            "attributions": {str(number): attribution.to_dict() for number, attribution in self.items()},
            "failed": {str(number): reason for number, reason in self.failed.items()},
        }

    def _finish(self) -> None:
        while self._next():
            pass

    def _next(self) -> bool:
        """Take what comes next; whether there was anything."""
        for number, outcome in self._coming:
            if isinstance(outcome, Attribution):
                self._found[number] = outcome
                return True
            self._failed[number] = str(outcome)
            logger.warning("prompt %d could not be explained: %s", number, outcome)
        return False
