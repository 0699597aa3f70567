"""Results of several targets: with one the tensors have no axis of targets, with several it stands in front."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, TypeVar

import torch

from apportion.core import ApportionError
from apportion.results._explained import Explained

R = TypeVar("R", bound="OfTargets")


class OfTargets:
    """A frozen dataclass with one part per target, for each of the fields in `by_target`."""

    #: The fields with an axis of targets in front; the first is always there.
    by_target: ClassVar[tuple[str, ...]]
    #: The number of axes of the first one for a single target.
    axes: ClassVar[int]
    explained: tuple[Explained, ...]

    @property
    def several(self) -> bool:
        """Whether there is an axis of targets."""
        return bool(getattr(self, self.by_target[0]).ndim > self.axes)

    @property
    def target(self) -> Explained:
        """The one target; with several, index the result first."""
        self.check_single("target")
        return self.explained[0]

    def __getitem__(self: R, index: int) -> R:
        """The result for one target, when several were explained at once."""
        if not self.several:
            raise ApportionError("this result is of one target, so it has no index; its tensors have.")
        parts = {name: getattr(self, name) for name in self.by_target}
        chosen = {name: None if part is None else part[index] for name, part in parts.items()}
        return replace(self, explained=(self.explained[index],), **chosen)  # type: ignore[type-var]

    def __iter__(self: R) -> Iterator[R]:
        """One result per target."""
        return (self[i] for i in range(len(self.explained))) if self.several else iter((self,))

    def __len__(self) -> int:
        """How many targets were explained."""
        return len(self.explained)

    @classmethod
    def joined(cls: type[R], found: Sequence[R]) -> R:
        """Results for one target each as one result; of one result itself."""
        if len(found) == 1:
            return found[0]
        columns = {name: [getattr(one, name) for one in found] for name in cls.by_target}
        parts = {name: None if parts[0] is None else torch.stack(parts) for name, parts in columns.items()}
        return replace(found[0], explained=tuple(e for one in found for e in one.explained), **parts)  # type: ignore[type-var]

    def check_single(self, what: str) -> None:
        """Refuse what only a result of one target has.

        Raises:
            ApportionError: There are several.
        """
        if len(self.explained) != 1:
            raise ApportionError(
                f"this result has {len(self.explained)} targets: take one by its index, such as a[0].{what}."
            )
