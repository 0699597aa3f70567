"""Interactions in the terminal: the largest effects, and a small matrix of all where there are few features."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len
from rich.console import RenderableType
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

from apportion.report.interactions._reading import (
    directed,
    effects,
    facts,
    index_of,
    largest_between,
    link,
    name,
    names,
)
from apportion.report.kit import (
    EITHER,
    LINE_LABEL,
    Report,
    any_special,
    bar,
    grid,
    sign_colour,
    signed,
    strength,
    visible,
)
from apportion.results import Interactions

TOP = 10
#: The longer side of a matrix that is shown.
MAX_MATRIX = 12
CELL = 5
#: Effects below this fraction of the largest get no colour.
FAINT = 0.06


def interactions_terminal(found: Interactions) -> RenderableType:
    """The interactions as something that `rich.print` can show, in colour where the console has colours."""
    return Report(lambda width, coloured: _report(found, width, coloured=coloured))


def _report(found: Interactions, width: int, *, coloured: bool) -> Iterator[RenderableType]:
    title = Text(f"{index_of(found)} of {found.method}", style="bold")
    yield title.append(f"  {visible(found.model)}" if found.model else "", style="not bold dim")
    value = found.target.value
    heading = Text(visible(found.target.label), style="bold")
    yield heading.append(f"   {signed(value, abs(value))} {found.target.unit}", style="not bold")
    yield Text(", ".join(facts(found)), style="dim")
    yield Text()
    note = ", without special tokens" if any_special(found.sources, found.features) else ""
    yield Text(f"largest effects, {'from → on' if directed(found) else 'of pairs'}{note}", style="dim")
    yield Padding(_effects(found, coloured=coloured), (0, 0, 0, 2))
    matrix = _matrix(found, coloured=coloured)
    if matrix is not None and _fits(found, width):
        yield Text()
        marked = "; in brackets what a feature has by itself" if any(j is not None for j in found.source_of) else ""
        yield Text(f"from (row) on (column){marked}", style="dim")
        yield Padding(matrix, (0, 0, 0, 2))


def _effects(found: Interactions, *, coloured: bool) -> Table:
    table = grid("left", "right", "left", "left")
    largest = largest_between(found)
    sources, targets = names(found.sources, LINE_LABEL), names(found.features, LINE_LABEL)
    for one in effects(found, TOP):
        error = Text("" if one.error is None else f"± {one.error:.2g}", style="dim")
        drawn = Text(bar(strength(one.value, largest)), style=sign_colour(one.value) if coloured else "")
        table.add_row(
            Text(f"{sources[one.source]} {link(found)} {targets[one.target]}"), signed(one.value, largest), error, drawn
        )
    return table


def _fits(found: Interactions, width: int) -> bool:
    labels = max(len("first order"), *(cell_len(name(f, LINE_LABEL)) for f in found.sources))
    return 3 + labels + len(found.features) * (CELL + 3) <= width


def _matrix(found: Interactions, *, coloured: bool) -> Table | None:
    """The values with the targets' first-order attributions below; None where they are too many."""
    if not 0 < len(found.sources) <= MAX_MATRIX or len(found.features) > MAX_MATRIX:
        return None
    largest = largest_between(found)
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(justify="left", no_wrap=True)
    for _ in found.features:
        table.add_column(justify="right", no_wrap=True, width=CELL + 2)
    table.add_row("", *(Text(name(f, CELL + 1), style="bold") for f in found.features))
    for j, (source, line) in enumerate(zip(found.sources, found.values.tolist(), strict=True)):
        cells = []
        for value, own in zip(line, found.source_of, strict=True):
            if own == j:
                cells.append(Text(f"({_small(value, largest)})", style="dim"))
            else:
                cells.append(Text(f" {_small(value, largest)} ", style=_style(strength(value, largest), coloured)))
        table.add_row(name(source, LINE_LABEL), *cells)
    if None in found.source_of:
        alone = zip(found.main_effect.tolist(), found.source_of, strict=True)
        said = (f"{_small(value, largest)} " if own is None else "" for value, own in alone)
        table.add_row(Text("alone", style="dim"), *(Text(text, style="dim") for text in said))
    sums = (Text(f"{_small(value, largest)} ", style="bold") for value in found.first_order.tolist())
    table.add_row(Text("first order", style="bold"), *sums)
    return table


def _small(value: float, largest: float) -> str:
    """A number of at most `CELL` characters, with the decimals that the largest effect needs for two digits or more."""
    decimals = 1 if largest >= 10 else 2 if largest >= 0.1 else 3
    for kept in range(decimals, -1, -1):
        text = f"{value:+.{kept}f}".replace("0.", ".", 1 if kept > 2 else 0)
        if len(text) <= CELL and (value == 0 or largest >= 1e-3):
            return text.replace("-", "−")
    return f"{value:+.0e}".replace("e+0", "e").replace("e-0", "e-").replace("-", "−")


def _style(at: float, coloured: bool) -> Style:
    if not coloured or abs(at) < FAINT:
        return Style()
    return Style(color=EITHER.text(at), bgcolor=EITHER.background(at))
