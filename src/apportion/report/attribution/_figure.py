"""The figure: bars for a short text, a strip of coloured features for a long one, a heat map for several targets;
above them the pictures with their maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len

from apportion.core import ApportionError
from apportion.report.kit import (
    FLAT,
    LIGHT,
    Plate,
    Reading,
    cut,
    draw_maps,
    ends_line,
    largest_on,
    maps_size,
    plates_of,
    readings,
    short,
    sign_colour,
    signed,
    text_members,
    visible,
)
from apportion.results import Attribution

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure
    import matplotlib.patches
from apportion.report.kit import FIGURE_LABEL, MAX_TICKS, QUIET, VERBATIM, colour_map, fonts

# Up to this many features get a bar each.
MAX_BARS = 40
# Characters in a line of the strip, its font size in points, and inches per character and line at that size.
LINE = 100
POINTS = 9
CHARACTER = 0.602 * POINTS / 72
LINE_HEIGHT = 0.235


def figure(attribution: Attribution) -> matplotlib.figure.Figure:
    """The shares as a matplotlib figure that belongs to no pyplot state.

    Raises:
        ApportionError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ApportionError("a figure needs matplotlib: pip install 'apportion[figures]'.") from error
    plates = plates_of(attribution.features, attribution.pictures)
    shown = readings(attribution, of=text_members(attribution.features))
    canvas = _with_maps(Figure, plates, readings(attribution), shown) if plates else _text(Figure, shown)
    heading = _title(shown[0]) if len(shown) == 1 else f"{len(shown)} targets"
    model = f" of {visible(attribution.model)}" if attribution.model else ""
    canvas.suptitle(
        f"{heading}\n{attribution.method}{model}", x=0.01, ha="left", fontsize=10, color=LIGHT.ink, **VERBATIM
    )
    return canvas


def _text(make: Callable[..., Any], shown: Sequence[Reading]) -> Any:
    """What shows the text: a figure, or what `make` gives instead of one."""
    if len(shown) > 1:
        return _heat_map(make, shown)
    return _bars(make, shown[0]) if len(shown[0].features) <= MAX_BARS else _strip(make, shown[0])


def _with_maps(
    make: Callable[..., Any], plates: Sequence[Plate], every: Sequence[Reading], shown: Sequence[Reading]
) -> Any:
    """A figure of the pictures and their maps, and beneath them the text, where there is one."""
    wide, tall = maps_size(len(every))
    tall *= sum(FLAT if plate.wide else 1 for plate in plates)
    largest = largest_on(plates, every)
    if not shown[0].features:
        canvas = make(figsize=(wide, tall + 0.6), layout="constrained")
        draw_maps(canvas, plates, every, largest)
        return canvas
    made: list[Any] = []

    def beneath(figsize: tuple[float, float], layout: str) -> Any:
        size = (max(wide, figsize[0]), tall + 0.6 + figsize[1])
        canvas = make(figsize=size, layout=layout)
        above, below = canvas.subfigures(2, 1, height_ratios=[tall, figsize[1]])
        draw_maps(above, plates, every, largest)
        made.append(canvas)
        return below

    _text(beneath, shown)
    return made[0]


def _bars(make: Callable[..., Any], reading: Reading) -> Any:
    count = len(reading.features)
    canvas = make(figsize=(7.2, 1.3 + 0.26 * count), layout="constrained")
    axes = canvas.add_subplot()
    places = range(count)
    axes.barh(places, reading.scores, height=0.72, color=[sign_colour(score) for score in reading.scores])
    axes.set_yticks(places, [short(f.label, FIGURE_LABEL) for f in reading.features], fontfamily=fonts(), **VERBATIM)
    axes.invert_yaxis()
    axes.axvline(0, color=LIGHT.ink, linewidth=0.8)
    for place, score in enumerate(reading.scores):
        axes.annotate(
            signed(score, reading.largest),
            (score if math.isfinite(score) else 0, place),
            xytext=(-4 if score < 0 else 4, 0),
            textcoords="offset points",
            ha="right" if score < 0 else "left",
            va="center",
            fontsize=8,
            color=QUIET,
            **VERBATIM,
        )
    # The numbers stand outside the bars and need their room.
    axes.margins(x=0.2, y=0.6 / max(1, count))
    axes.tick_params(axis="y", length=0)
    axes.spines[["left", "top", "right"]].set_visible(False)
    for block in reading.blocks:
        if block.heading:
            axes.axhline(block.members[0] - 0.5, color="#d5d9de", linewidth=0.8, zorder=0)
            axes.annotate(
                block.heading,
                (1, block.members[0] - 0.45),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="top",
                fontsize=8,
                color=QUIET,
                **VERBATIM,
            )
    axes.set_xlabel(reading.target.unit, fontsize=9, **VERBATIM)
    return canvas


def _strip(make: Callable[..., Any], reading: Reading) -> Any:
    """The text in lines, each feature on its colour; a cell of the character grid is one unit wide."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    placed, lines = _lines(reading)
    canvas = make(figsize=(LINE * CHARACTER + 0.1, lines * LINE_HEIGHT + 1.3), layout="constrained")
    axes = canvas.add_subplot()
    axes.set_xlim(0, LINE)
    axes.set_ylim(lines, 0)
    axes.set_axis_off()
    monospaced = ["DejaVu Sans Mono", *fonts()]
    boxes: list[matplotlib.patches.Patch] = []
    for i, text, column, line in placed:
        at = reading.strength(i)
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
            fontstyle="italic" if reading.features[i].template else "normal",
            fontfamily=monospaced,
            va="center_baseline",
            # A thousand texts inside the axes need no part in the layout, which would measure each.
            in_layout=False,
            **VERBATIM,
        )
    colours = [LIGHT.background(reading.strength(i)) for i, *_ in placed]
    axes.add_collection(PatchCollection(boxes, facecolors=colours, linewidths=0), autolim=False)
    for block, line in _headings(reading, placed):
        axes.text(0, line + 0.6, block, fontsize=8, color=QUIET, fontweight="bold", va="center", **VERBATIM)
    _colour_bar(canvas, axes, reading, orientation="horizontal", shrink=0.3, aspect=40)
    return canvas


def _lines(reading: Reading) -> tuple[list[tuple[int, str, int, int]], int]:
    """Where each piece of text goes, as feature, text, column and line; and how many lines there are."""
    placed = []
    column = line = 0
    for block in reading.blocks:
        if column:
            column, line = 0, line + 1
        if block.heading:
            line += 1
        for i in block.members:
            text = cut(visible(reading.features[i].label), LINE)
            if column and column + cell_len(text) > LINE:
                column, line = 0, line + 1
            placed.append((i, text, column, line))
            column += cell_len(text)
            if ends_line(reading.features[i]):
                column, line = 0, line + 1
    return placed, line + (1 if column else 0)


def _headings(reading: Reading, placed: Sequence[tuple[int, str, int, int]]) -> list[tuple[str, int]]:
    first_lines = {i: line for i, _, _, line in placed}
    return [(block.heading, first_lines[block.members[0]] - 1) for block in reading.blocks if block.heading]


def _heat_map(make: Callable[..., Any], shown: Sequence[Reading]) -> Any:
    features = shown[0].features
    size = (min(24.0, 2.5 + 0.24 * len(features)), min(24.0, 2.2 + 0.26 * len(shown)))
    canvas = make(figsize=size, layout="constrained")
    axes = canvas.add_subplot()
    largest = shown[0].largest or 1.0
    axes.imshow([r.scores for r in shown], cmap=colour_map(), vmin=-largest, vmax=largest, aspect="auto")
    every, each = math.ceil(len(features) / MAX_TICKS), math.ceil(len(shown) / MAX_TICKS)
    places, rows = range(0, len(features), every), range(0, len(shown), each)
    labels = [short(features[i].label, FIGURE_LABEL) for i in places]
    axes.set_xticks(places, labels, rotation=90, fontsize=8, fontfamily=fonts(), **VERBATIM)
    names = [short(shown[i].target.label, FIGURE_LABEL) for i in rows]
    axes.set_yticks(rows, names, fontsize=8, fontfamily=fonts(), **VERBATIM)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for block in shown[0].blocks[1:]:
        axes.axvline(block.members[0] - 0.5, color=LIGHT.ink, linewidth=0.8)
    axes.set_ylabel("target", fontsize=9)
    _colour_bar(canvas, axes, shown[0], orientation="vertical", shrink=1.0, aspect=20)
    return canvas


def _colour_bar(
    canvas: Any,
    axes: matplotlib.axes.Axes,
    reading: Reading,
    *,
    orientation: str,
    shrink: float,
    aspect: int,
) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    largest = reading.largest or 1.0
    mappable = ScalarMappable(Normalize(-largest, largest), colour_map())
    location = "bottom" if orientation == "horizontal" else "right"
    bar = canvas.colorbar(mappable, ax=axes, location=location, shrink=shrink, aspect=aspect, pad=0.02)
    ticks = [-largest, 0.0, largest]
    bar.set_ticks(ticks, labels=[signed(tick, largest) for tick in ticks])
    bar.ax.tick_params(length=0, labelsize=8)
    bar.set_label(reading.target.unit, fontsize=8)
    bar.outline.set_visible(False)


def _title(reading: Reading) -> str:
    target = reading.target
    return f"{short(target.label, 2 * FIGURE_LABEL)}   {signed(target.value, abs(target.value))} {target.unit}"
