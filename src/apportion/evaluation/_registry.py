"""The registry of measures: measures by name, and what a name with options stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from apportion.core import ApportionError, made_by_name
from apportion.evaluation._measure import Measure

MEASURES: dict[str, type[Measure]] = {}

AnyMeasure = str | Measure
M = TypeVar("M", bound=type[Measure])


def register_measure(name: str) -> Callable[[M], M]:
    """Make a measure usable by name.

    Args:
        name: In lower case with hyphens, as users write it.

    Raises:
        ApportionError: The name, or the name of a column, is taken by another measure.
    """

    def add(cls: M) -> M:
        for other, taken in MEASURES.items():
            if (taken.__module__, taken.__qualname__) == (cls.__module__, cls.__qualname__):
                continue
            if other == name:
                raise ApportionError(f"the measure name {name!r} is taken by {taken.__name__}; choose another.")
            if both := {column.name for column in cls.columns} & {column.name for column in taken.columns}:
                raise ApportionError(f"the measure {other!r} has a column {both.pop()!r} too; choose another name.")
        cls.name = name
        MEASURES[name] = cls
        return cls

    return add


def as_measure(measure: AnyMeasure) -> Measure:
    """The measure that a name stands for; a name may carry options: `"perturbation-curves(steps=5)"`.

    Raises:
        ApportionError: There is no measure of that name, or it has no such option.
    """
    if isinstance(measure, Measure):
        return measure
    return made_by_name(measure, MEASURES, what="measure", example="perturbation-curves(steps=5)")
