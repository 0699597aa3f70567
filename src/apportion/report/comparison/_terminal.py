"""The comparison in a terminal: the text once per method, what each took, and how far they agree."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

from apportion.report.comparison._reading import favourites, passes, tokens_hold
from apportion.report.kit import (
    EITHER,
    LINE_LABEL,
    MAX_STRIP_OF_SEVERAL,
    Report,
    cut,
    image_lines,
    image_views_of,
    largest_on,
    signed,
    strip,
    target_shares,
    text_members,
    visible,
)
from apportion.results import Comparison

# The columns of numbers, and how wide a column of correlations is.
NUMBERS = ("tokens hold", "seconds", "forward", "backward")
CELL = 6


def comparison_terminal(comparison: Comparison) -> RenderableType:
    """The comparison as something that `rich.print` can show, in colour where the console has colours."""
    return Report(lambda width, coloured: _report(comparison, width, coloured=coloured))


def _report(comparison: Comparison, width: int, *, coloured: bool) -> Iterator[RenderableType]:
    first = next(iter(comparison.values()))
    title = Text(f"{len(comparison)} methods compared", style="bold")
    yield title.append(f"  {visible(first.model)}" if first.model else "", style="not bold dim")
    target = first.explained[0]
    heading = Text(visible(target.label), style="bold")
    yield heading.append(f"   {signed(target.value, abs(target.value))} {target.unit}", style="not bold")
    if len(first) > 1:
        yield Text(f"the first of {len(first)} targets; take a method's attribution by its name for the others", "dim")
    for name, attribution in comparison.items():
        text, image_views = (
            text_members(attribution.features),
            image_views_of(attribution.features, attribution.pictures),
        )
        if not image_views and len(text) > MAX_STRIP_OF_SEVERAL:
            continue
        yield Text()
        yield Text(name, style="bold")
        parts: list[RenderableType] = []
        if image_views:
            shares = target_shares(attribution, at_most=1)[0]
            largest = largest_on(image_views, [shares])
            for image_view in image_views:
                parts += image_lines(image_view, shares, largest, coloured=coloured, compact=True)
        if 0 < len(text) <= MAX_STRIP_OF_SEVERAL:
            parts += strip(target_shares(attribution, at_most=1, of=text)[0], coloured=coloured)
        yield Padding(Group(*parts), (0, 0, 0, 2))
    yield Text()
    yield _methods(comparison)
    shared = comparison.shared
    noun = "pass" if shared.forward == 1 else "passes"
    yield Text(f"all share {passes(shared.forward)} forward {noun} of {shared.seconds:.2f} s", style="dim")
    if len(comparison) > 1:
        yield Text()
        yield Text("rank correlation (Spearman's ρ), template tokens left out", style="dim")
        yield from _agreement(comparison, width, coloured=coloured)
    for name, error in comparison.refused.items():
        yield Text(f"{name} cannot serve here: {error}", style="dim")


def _methods(comparison: Comparison) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, min_width=max(map(len, comparison)))
    table.add_column(no_wrap=True)
    for heading in NUMBERS:
        table.add_column(justify="right", no_wrap=True, min_width=len(heading))
    table.add_row(*(Text(heading, style="dim") for heading in ("method", "largest", *NUMBERS)))
    for name, attribution in comparison.items():
        cost = attribution.cost
        took = ("", "", "")
        if cost is not None:
            took = (f"{cost.seconds:.2f}", passes(cost.forward), passes(cost.backward))
        best = " · ".join(cut(word, LINE_LABEL // 2) for word in favourites(attribution))
        table.add_row(name, Text(best), tokens_hold(attribution), *took)
    return table


def _agreement(comparison: Comparison, width: int, *, coloured: bool) -> Iterator[RenderableType]:
    """As many columns as fit; the page has all."""
    names = [f"{k} {name}" for k, name in enumerate(comparison, start=1)]
    first = max(map(len, names))
    shown = min(len(names), max(1, (width - first) // CELL))
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True, min_width=first)
    for _ in range(shown):
        table.add_column(justify="right", no_wrap=True)
    table.add_row("", *(Text(str(k), style="dim") for k in range(1, shown + 1)))
    for name, row in zip(names, comparison.rank_correlations().tolist(), strict=True):
        cells = []
        for value in row[:shown]:
            defined = value == value
            style = Style(color=EITHER.text(value), bgcolor=EITHER.background(value)) if coloured and defined else ""
            cells.append(Text(f"{value:.2f}".replace("-", "−") if defined else "–", style=style))
        table.add_row(name, *cells)
    yield table
    if shown < len(names):
        yield Text(f"{len(names) - shown} more columns are on the page (to_html)", style="dim")
