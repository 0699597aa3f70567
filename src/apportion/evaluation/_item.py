"""An item: one prediction to explain, with what is known about its true cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apportion._target import AnyTarget, Unit, as_targets

Region = tuple[int, int]
"""From a character of the prompt's text up to another, which is not included."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One prediction to explain.

    Args:
        id: Its name, by which a run that goes on knows what is done; each item's is different.
        prompt: As `Explainer.explain` takes it; a text where `truth` is given.
        target: As there; so are `contrast`, `unit` and `position`.
        contrast: See there.
        unit: See there.
        position: See there.
        truth: Where in the prompt's text the cause stands, such as a verb's subject; empty where it is not known.
        groups: What a summary may be broken down by, such as the number of attractors.
    """

    id: str
    prompt: Any
    target: Any = None
    contrast: str | int | tuple[str | int, ...] | None = None
    unit: Unit = "logit"
    position: int | str | None = None
    truth: tuple[Region, ...] = ()
    groups: Mapping[str, str | int | bool] = field(default_factory=dict)

    @property
    def asked(self) -> AnyTarget:
        """The target as the explainer takes it."""
        (target,) = as_targets(self.target, self.contrast, self.unit, self.position)
        return target
