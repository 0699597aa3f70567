"""A figure of a text: its features in lines, each on its colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len

from apportion.report.kit._colour import LIGHT
from apportion.report.kit._drawing import QUIET, VERBATIM, colour_map, fonts
from apportion.report.kit._labels import cut, ends_line, visible
from apportion.report.kit._numbers import signed
from apportion.report.kit._target_shares import TargetShares

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.patches

# Characters in a line of the strip, its font size in points, and inches per character and line at that size.
LINE = 100
POINTS = 9
CHARACTER = 0.602 * POINTS / 72
LINE_HEIGHT = 0.235


def strip_figure(make: Callable[..., Any], shares: TargetShares) -> tuple[Any, Any]:
    """The text in lines, each feature on its colour; a cell of the character grid is one unit wide. Also its axes."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    placed, lines = _lines(shares)
    canvas = make(figsize=(LINE * CHARACTER + 0.1, lines * LINE_HEIGHT + 1.3), layout="constrained")
    axes = canvas.add_subplot()
    axes.set_xlim(0, LINE)
    axes.set_ylim(lines, 0)
    axes.set_axis_off()
    monospaced = ["DejaVu Sans Mono", *fonts()]
    boxes: list[matplotlib.patches.Patch] = []
    for i, text, column, line in placed:
        at = shares.strength(i)
        # The space that a label begins with stands before its colour.
        start = column + len(text) - len(text.lstrip(" "))
        width = cell_len(text.lstrip(" "))
        boxes.append(Rectangle((start, line + 0.08), width, 0.84))
        axes.text(
            start,
            line + 0.5,
            text.lstrip(" "),
            color=LIGHT.text(at),
            fontsize=POINTS,
            fontstyle="italic" if shares.features[i].template else "normal",
            fontfamily=monospaced,
            va="center_baseline",
            # A thousand texts inside the axes need no part in the layout, which would measure each.
            in_layout=False,
            **VERBATIM,
        )
    colours = [LIGHT.background(shares.strength(i)) for i, *_ in placed]
    axes.add_collection(PatchCollection(boxes, facecolors=colours, linewidths=0), autolim=False)
    for block, line in _headings(shares, placed):
        axes.text(0, line + 0.6, block, fontsize=8, color=QUIET, fontweight="bold", va="center", **VERBATIM)
    return canvas, axes


def _lines(shares: TargetShares) -> tuple[list[tuple[int, str, int, int]], int]:
    """Where each piece of text goes, as feature, text, column and line; and how many lines there are."""
    placed = []
    column = line = 0
    for block in shares.blocks:
        if column:
            column, line = 0, line + 1
        if block.heading:
            line += 1
        for i in block.members:
            text = cut(visible(shares.features[i].label), LINE)
            if column and column + cell_len(text) > LINE:
                column, line = 0, line + 1
            placed.append((i, text, column, line))
            column += cell_len(text)
            if ends_line(shares.features[i]):
                column, line = 0, line + 1
    return placed, line + (1 if column else 0)


def _headings(shares: TargetShares, placed: Sequence[tuple[int, str, int, int]]) -> list[tuple[str, int]]:
    first_lines = {i: line for i, _, _, line in placed}
    return [(block.heading, first_lines[block.members[0]] - 1) for block in shares.blocks if block.heading]


def colour_bar(
    canvas: Any, axes: matplotlib.axes.Axes, shares: TargetShares, *, orientation: str, shrink: float, aspect: int
) -> None:
    """A colour bar whose ends are those of the shares."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    largest = shares.largest or 1.0
    mappable = ScalarMappable(Normalize(-largest, largest), colour_map())
    location = "bottom" if orientation == "horizontal" else "right"
    bar = canvas.colorbar(mappable, ax=axes, location=location, shrink=shrink, aspect=aspect, pad=0.02)
    ticks = [-largest, 0.0, largest]
    bar.set_ticks(ticks, labels=[signed(tick, largest) for tick in ticks])
    bar.ax.tick_params(length=0, labelsize=8)
    bar.set_label(shares.target.unit, fontsize=8)
    bar.outline.set_visible(False)
