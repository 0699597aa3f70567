"""Ranking: for each measure the methods from best to worst, and which of them cannot be told apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from apportion.results.evaluation import RANDOM, Column, Evaluation, Only


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One method by one measure.

    Args:
        method: As the evaluation calls it.
        n: How many items have a number.
        mean: Over them.
        low: Where the mean's interval begins; NaN where there is none.
        high: Where it ends.
        best: Whether no method has a better mean.
        tied: Whether the items do not tell it from the best method.
        better_than_random: Whether the items tell that it is better than a random order; None where that was not asked.
    """

    method: str
    n: int
    mean: float
    low: float
    high: float
    best: bool = False
    tied: bool = False
    better_than_random: bool | None = None

    @property
    def known(self) -> bool:
        """Whether there is an interval: one item has none."""
        return math.isfinite(self.low) and math.isfinite(self.high)


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """A measure with its methods: from the best to the worst, or in the run's order where neither end is better.

    Args:
        column: The measure.
        entries: At least one.
    """

    column: Column
    entries: tuple[Entry, ...]

    def of(self, method: str) -> Entry | None:
        """A method's entry; None where it has no number."""
        return next((entry for entry in self.entries if entry.method == method), None)

    @property
    def random(self) -> Entry | None:
        """What a random order comes to."""
        return self.of(RANDOM)

    @property
    def verdict(self) -> str:
        """The ranking in one sentence; empty where neither end is better."""
        if not self.column.better:
            return ""
        best = self.entries[0]
        if not best.known:
            return "One item tells no method from another."
        if self.random is not None and not any(entry.better_than_random for entry in self.entries):
            return "No method is told to be better than a random order."
        level = [entry.method for entry in self.entries if entry.tied and not entry.best]
        return f"{best.method} is best" + (f"; {listed(level)} cannot be told from it." if level else ".")

    def text(self, value: float) -> str:
        """A value with the decimals that give the largest of the measure three digits."""
        return number(value, self._decimals)

    @property
    def _decimals(self) -> int:
        sizes = [abs(v) for s in self.entries for v in (s.mean, s.low, s.high) if math.isfinite(v) and v]
        return max(0, min(6, 2 - math.floor(math.log10(max(sizes))))) if sizes else 2


def rankings(evaluation: Evaluation, *, only: Only = "all") -> list[Ranking]:
    """The measures that have numbers, in the run's order.

    Args:
        evaluation: What was measured.
        only: `"all"` items, or those that the model gets right: `"correct"`.
    """
    if not len(evaluation):
        return []
    summary = evaluation.summary(only=only).dropna(subset="mean")
    found = []
    for column in evaluation.columns:
        rows = summary[summary["measure"] == column.name].to_dict("records")
        if rows and not column.curve:
            found.append(Ranking(column=column, entries=_ranked(evaluation, column, rows, only)))
    return found


def _ranked(evaluation: Evaluation, column: Column, rows: list[dict[str, Any]], only: Only) -> tuple[Entry, ...]:
    order = {method: place for place, method in enumerate(evaluation.methods)}
    rows.sort(key=lambda row: order[row["method"]])
    judged = bool(column.better)
    if judged:
        rows.sort(key=lambda row: row["mean"], reverse=column.better == "higher")
    best = rows[0]["method"]
    level = {best} | _told(evaluation, column, best, only)[0] if judged else set()
    compared = judged and any(row["method"] == RANDOM for row in rows)
    ahead = _told(evaluation, column, RANDOM, only)[1] if compared else set()
    return tuple(
        Entry(
            method=row["method"],
            n=int(row["n"]),
            mean=row["mean"],
            low=row["low"],
            high=row["high"],
            best=judged and row["mean"] == rows[0]["mean"],
            tied=row["method"] in level,
            better_than_random=row["method"] in ahead if compared and row["method"] != RANDOM else None,
        )
        for row in rows
    )


def _told(evaluation: Evaluation, column: Column, to: str, only: Only) -> tuple[set[str], set[str]]:
    """The methods that the items do not tell from another, and those they tell to be better than it."""
    level, better = set(), set()
    sign = -1 if column.better == "lower" else 1
    for row in evaluation.differences(column.name, to=to, only=only).to_dict("records"):
        ends = sorted((sign * row["low"], sign * row["high"]))
        if row["n"] < 2 or not all(map(math.isfinite, ends)) or ends[0] <= 0 <= ends[1]:
            level.add(row["method"])
        elif ends[0] > 0:
            better.add(row["method"])
    return level, better


def number(value: float, decimals: int) -> str:
    """A value with so many decimals; – where it is not defined."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:.{decimals}f}"
    return (text[1:] if float(text) == 0 and text.startswith("-") else text).replace("-", "−")


def listed(words: list[str]) -> str:
    """Words with commas and, before the last, "and"; empty without any."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
