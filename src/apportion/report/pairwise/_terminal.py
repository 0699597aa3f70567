"""A similarity's pairs in the terminal: the largest of them, and the ledger."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from apportion.report.kit import (
    Report,
    TargetShares,
    any_special,
    bar,
    grid,
    ledger_table,
    percent,
    sign_colour,
    signed,
    visible,
)
from apportion.report.pairwise._html import top_pairs
from apportion.results import Pairwise

TOP = 10


def pairwise_terminal(pairs: Pairwise) -> RenderableType:
    """The pairs as something that `rich.print` can show, in colour where the console has colours."""
    return Report(lambda width, coloured: _report(pairs, coloured=coloured))


def _report(pairs: Pairwise, *, coloured: bool) -> Iterator[RenderableType]:
    title = Text(pairs.method, style="bold")
    yield title.append(f"  {visible(pairs.model)}" if pairs.model else "", style="not bold dim")
    value, best = pairs.explained.value, top_pairs(pairs, TOP)
    heading = Text(visible(pairs.explained.label), style="bold")
    yield heading.append(f"   {signed(value, abs(value))} {pairs.explained.unit}", style="not bold")
    yield Text()
    sizes = f"{len(pairs.rows)} × {len(pairs.columns)} features"
    yield Text(
        f"largest pairs of {sizes}{', without special tokens' if any_special(pairs.rows, pairs.columns) else ''}",
        style="dim",
    )
    yield Padding(_pairs(best, coloured=coloured), (0, 0, 0, 2))
    assert best.accounts is not None
    yield Text()
    yield Text("ledger", style="dim")
    yield Padding(ledger_table(best, best.accounts), (0, 0, 0, 2))


def _pairs(best: TargetShares, *, coloured: bool) -> RenderableType:
    table = grid("left", "right", "right", "left")
    for i, (feature, score) in enumerate(zip(best.features, best.scores, strict=True)):
        share = best.share(score)
        table.add_row(
            Text(feature.label),
            signed(score, best.largest),
            Text("" if share is None else percent(share), style="dim"),
            Text(bar(best.strength(i)), style=sign_colour(score) if coloured else ""),
        )
    return table
