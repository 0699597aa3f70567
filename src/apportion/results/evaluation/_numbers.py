"""Numbers: what a run's rows say, gathered into arrays by item, method and column."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from apportion.core import ApportionError
from apportion.results.evaluation._rows import Row

COSTS = ("seconds", "forward", "backward")


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """A run's numbers; NaN where a row has none.

    Args:
        values: In the order of the items, of the methods and of the columns that are not curves.
        costs: What a method took for an item: `COSTS`.
        correct: For each item, whether the model is right; None where nothing was named.
        groups: By name, what each item is; None where it does not say.
        refused: For each method, how often each reason was given.
    """

    values: Float[np.ndarray, "item method column"]
    costs: Float[np.ndarray, "item method cost"]
    correct: Sequence[bool | None]
    groups: dict[str, list[Any]]
    refused: Sequence[Counter[str]]

    @property
    def right(self) -> Bool[np.ndarray, " item"]:
        """The items that the model gets right."""
        return np.array([correct is True for correct in self.correct], dtype=bool)

    def group(self, name: str) -> list[Any]:
        """What each item is in this respect.

        Raises:
            ApportionError: No item says.
        """
        if name not in self.groups:
            known = f"the groups are {', '.join(self.groups)}" if self.groups else "the items have no groups"
            raise ApportionError(f"no item says what its {name!r} is; {known}.")
        return self.groups[name]


def numbers_of(rows: Iterable[Row], methods: Sequence[str], columns: Sequence[str]) -> Numbers:
    """Go through rows once, and keep their numbers only."""
    values, costs = array("d"), array("d")
    correct: list[bool | None] = []
    groups: dict[str, list[Any]] = {}
    refused: dict[str, Counter[str]] = {method: Counter() for method in methods}
    for row in rows:
        values.extend(_number(row.values.get(column)) for column in columns)
        costs.extend(_number(getattr(row, cost)) for cost in COSTS)
        if row.refused is not None:
            refused[row.method][row.refused] += 1
        if row.method == methods[0]:
            for name in row.groups.keys() - groups.keys():
                groups[name] = [None] * len(correct)
            correct.append(row.correct)
            for name, of_items in groups.items():
                of_items.append(row.groups.get(name))
    return Numbers(
        values=np.array(values).reshape(len(correct), len(methods), len(columns)),
        costs=np.array(costs).reshape(len(correct), len(methods), len(COSTS)),
        correct=correct,
        groups={name: groups[name] for name in sorted(groups)},
        refused=list(refused.values()),
    )


def curves_of(
    rows: Iterable[Row], methods: Sequence[str], curves: Sequence[str]
) -> dict[tuple[str, str], Float[np.ndarray, "item step"]]:
    """Every item's curves by method and name, at equally spaced fractions; NaN where a row has none.

    Where items' curves have different numbers of points, each is drawn at as many as the longest has.
    """
    found: dict[tuple[str, str], list[Sequence[float]]] = {(m, curve): [] for m in methods for curve in curves}
    for row in rows:
        for curve in curves:
            found[row.method, curve].append(array("d", (_number(y) for y in row.curves.get(curve, ()))))
    return {key: _at_common_fractions(of_items) for key, of_items in found.items() if any(of_items)}


def _at_common_fractions(curves: Sequence[Sequence[float]]) -> Float[np.ndarray, "item step"]:
    longest = max(map(len, curves))
    fractions = np.linspace(0, 1, longest)
    drawn = np.full((len(curves), longest), np.nan)
    for item, curve in enumerate(curves):
        if len(curve) == longest:
            drawn[item] = curve
        elif curve:
            drawn[item] = np.interp(fractions, np.linspace(0, 1, len(curve)), curve)
    return drawn


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
