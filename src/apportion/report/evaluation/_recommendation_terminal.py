"""The recommendation in a terminal: the verdict, every method's numbers, and what other measures prefer."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from apportion.report.kit import Report, visible
from apportion.results.evaluation import Candidate, Recommendation

LEVEL, HOME = "≈", "⌂"
ARROWS = {"higher": "↑", "lower": "↓"}


def recommendation_terminal(recommendation: Recommendation) -> RenderableType:
    """The recommendation as something that `rich.print` can show."""
    return Report(lambda width, coloured: _report(recommendation))


def _report(found: Recommendation) -> Iterator[RenderableType]:
    first, *others = found.verdict.splitlines()
    yield Text(first, style="bold")
    for line in others:
        yield Text(line)
    yield Text()
    yield _ranking(found)
    signs = [f"{LEVEL} cannot be told apart from the best", "intervals are of 95%"]
    if any(candidate.self_removing for candidate in found.candidates):
        signs.insert(1, f"{HOME} removes parts of the prompt itself, as the measure does")
    yield Text("; ".join(signs), style="dim")
    preferred = found.preferred_by()
    if preferred:
        yield Text()
        yield _elsewhere(found)
    for name, (items, reason) in found.refused.items():
        yield Text(f"{visible(name)} was left out: {items} texts refused: {reason}", style="dim")


def _ranking(found: Recommendation) -> Table:
    largest = max(max(abs(c.mean), c.behind, abs(c.low), abs(c.high)) for c in found.candidates)
    heading = f"mean {ARROWS[found.measure.better]}"
    headings = [Text(text, style="dim") for text in ("method", "", heading, "behind the best", "first in", "seconds")]
    rows = [_cells(candidate, largest, best=candidate is found.best) for candidate in found.candidates]
    random = [Text(text) for text in ("random", "", _interval(*found.random, largest), "", "", "")]
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(overflow="fold")
    for column in range(1, len(headings)):
        # Where the terminal is too narrow, it is the names that are broken.
        widest = max(row[column].cell_len for row in (headings, *rows, random))
        table.add_column(justify="left" if column == 1 else "right", no_wrap=True, min_width=widest)
    for row in (headings, *rows):
        table.add_row(*row)
    table.add_row(*random, style="dim")
    return table


def _cells(candidate: Candidate, largest: float, *, best: bool) -> list[Text]:
    signs = f"{HOME if candidate.self_removing else ' '}{LEVEL if candidate.tied and not best else ''}"
    behind = _interval(candidate.behind, candidate.behind_low, candidate.behind_high, largest)
    return [
        Text(visible(candidate.method), style="bold" if best else ""),
        Text(signs.rstrip()),
        Text(_interval(candidate.mean, candidate.low, candidate.high, largest), style="bold" if best else ""),
        Text("" if best else behind),
        Text(f"{candidate.first:.0%}"),
        Text(f"{candidate.seconds:.2f}"),
    ]


def _elsewhere(found: Recommendation) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column(no_wrap=True)
    rank_heading = f"rank of {visible(found.best.method)}"
    table.add_row(*(Text(text, style="dim") for text in ("other measure", "prefers", rank_heading)))
    for name, methods in found.preferred_by().items():
        ranked = sum(name in candidate.ranks for candidate in found.candidates)
        rank = found.best.ranks.get(name)
        where = "–" if rank is None else f"{rank} of {ranked}"
        table.add_row(Text(name), Text(visible(", ".join(methods))), Text(where))
    return table


def _interval(mean: float, low: float, high: float, largest: float) -> str:
    """The numbers with as many decimals as the column's largest needs for three digits."""
    decimals = max(0, min(6, 2 - math.floor(math.log10(largest)))) if largest > 0 else 2
    texts = (f"{value:z.{decimals}f}".replace("-", "−") for value in (mean, low, high))
    return "{} [{}, {}]".format(*texts)
