"""The comparison in a terminal: the text once per method, what each took, and how far they agree."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from apportion._comparison import Comparison
from apportion.report._colour import EITHER
from apportion.report._comparison import favourites, passes
from apportion.report._labels import visible
from apportion.report._numbers import signed
from apportion.report._reading import readings
from apportion.report._terminal import LABEL, MAX_STRIP_OF_SEVERAL, MAX_WIDTH, strip

# Correlations of more methods than this do not fit beside each other.
MAX_COLUMNS = 14


def comparison_terminal(comparison: Comparison) -> RenderableType:
    """The comparison as something that `rich.print` can show, in colour where the console has colours."""
    return _TerminalComparison(comparison)


def comparison_text(comparison: Comparison) -> str:
    """The terminal report as text, coloured only where stdout is a terminal and `NO_COLOR` is not set."""
    coloured = sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    console = Console(file=io.StringIO(), force_terminal=coloured, force_jupyter=False, highlight=False)
    with console.capture() as capture:
        console.print(comparison_terminal(comparison))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


class _TerminalComparison:
    """Decides on colours when it is printed, since only the console knows whether it has them."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        coloured = console.color_system is not None and not console.no_color
        width = min(options.max_width, MAX_WIDTH)
        for renderable in _report(self.comparison, coloured=coloured):
            yield from console.render(renderable, options.update(width=width))


def _report(comparison: Comparison, *, coloured: bool) -> Iterator[RenderableType]:
    first = next(iter(comparison.values()))
    title = Text(f"{len(comparison)} methods compared", style="bold")
    yield title.append(f"  {visible(first.model)}" if first.model else "", style="not bold dim")
    target = first.explained[0]
    heading = Text(visible(target.label), style="bold")
    yield heading.append(f"   {signed(target.value, abs(target.value))} {target.unit}", style="not bold")
    if len(first) > 1:
        yield Text(f"the first of {len(first)} targets; take a method's attribution by its name for the others", "dim")
    for name, attribution in comparison.items():
        if len(attribution.features) <= MAX_STRIP_OF_SEVERAL:
            yield Text()
            yield Text(name, style="bold")
            text = Group(*strip(readings(attribution, at_most=1)[0], coloured=coloured))
            yield Padding(text, (0, 0, 0, 2))
    yield Text()
    yield _methods(comparison)
    shared = comparison.shared
    noun = "pass" if shared.forward == 1 else "passes"
    yield Text(f"all share {passes(shared.forward)} forward {noun} of {shared.seconds:.2f} s", style="dim")
    if len(comparison) > 1:
        yield Text()
        yield Text("rank correlation (Spearman's ρ), template tokens left out", style="dim")
        yield _agreement(comparison, coloured=coloured)
    for name, error in comparison.refused.items():
        yield Text(f"{name} cannot serve here: {error}", style="dim")


def _methods(comparison: Comparison) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for side in ("left", "left", "left", "right", "right", "right"):
        table.add_column(justify=side)
    table.add_row(*(Text(h, style="dim") for h in ("method", "largest", "sums", "seconds", "forward", "backward")))
    for name, attribution in comparison.items():
        cost = attribution.cost
        took = ("", "", "")
        if cost is not None:
            took = (f"{cost.seconds:.2f}", passes(cost.forward), passes(cost.backward))
        best = " · ".join(word[:LABEL] for word in favourites(attribution))
        table.add_row(name, Text(best), Text(attribution.conserves, style="dim"), *took)
    return table


def _agreement(comparison: Comparison, *, coloured: bool) -> Table:
    names = list(comparison)
    shown = min(len(names), MAX_COLUMNS)
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column()
    for _ in range(shown):
        table.add_column(justify="right", no_wrap=True)
    table.add_row("", *(Text(str(k), style="dim") for k in range(1, shown + 1)))
    for k, (name, row) in enumerate(zip(names, comparison.rank_correlations().tolist(), strict=True), start=1):
        cells = []
        for value in row[:shown]:
            defined = value == value
            style = Style(color=EITHER.text(value), bgcolor=EITHER.background(value)) if coloured and defined else ""
            cells.append(Text(f"{value:+.2f}".replace("-", "−") if defined else "–", style=style))
        table.add_row(f"{k} {name}", *cells)
    return table
