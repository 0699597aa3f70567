"""The figure: bars for a short text, a strip of coloured features for a long one, a heat map for several targets;
above them the pictures with their maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from apportion.report.kit import (
    FIGURE_LABEL,
    FLAT,
    LIGHT,
    MAX_TICKS,
    QUIET,
    VERBATIM,
    ImageView,
    TargetShares,
    bar_figure,
    colour_bar,
    colour_map,
    draw_maps,
    figure_class,
    fonts,
    image_views_of,
    largest_on,
    maps_size,
    short,
    signed,
    strip_figure,
    target_shares,
    text_members,
    visible,
)
from apportion.results import Attribution

if TYPE_CHECKING:
    import matplotlib.figure

# Up to this many features get a bar each.
MAX_BARS = 40


def figure(attribution: Attribution) -> matplotlib.figure.Figure:
    """The shares as a matplotlib figure that belongs to no pyplot state.

    Raises:
        ApportionError: matplotlib is not installed.
    """
    make = figure_class()
    image_views = image_views_of(attribution.features, attribution.pictures)
    shown = target_shares(attribution, of=text_members(attribution.features))
    canvas = _with_maps(make, image_views, target_shares(attribution), shown) if image_views else _text(make, shown)
    heading = _title(shown[0]) if len(shown) == 1 else f"{len(shown)} targets"
    model = f" of {visible(attribution.model)}" if attribution.model else ""
    canvas.suptitle(
        f"{heading}\n{attribution.method}{model}", x=0.01, ha="left", fontsize=10, color=LIGHT.ink, **VERBATIM
    )
    return canvas


def _text(make: Callable[..., Any], shown: Sequence[TargetShares]) -> Any:
    """What shows the text: a figure, or what `make` gives instead of one."""
    if len(shown) > 1:
        return _heat_map(make, shown)
    return _bars(make, shown[0]) if len(shown[0].features) <= MAX_BARS else _strip(make, shown[0])


def _with_maps(
    make: Callable[..., Any],
    image_views: Sequence[ImageView],
    every: Sequence[TargetShares],
    shown: Sequence[TargetShares],
) -> Any:
    """A figure of the pictures and their maps, and beneath them the text, where there is one."""
    wide, tall = maps_size(len(every))
    tall *= sum(FLAT if image_view.wide else 1 for image_view in image_views)
    largest = largest_on(image_views, every)
    if not shown[0].features:
        canvas = make(figsize=(wide, tall + 0.6), layout="constrained")
        draw_maps(canvas, image_views, every, largest)
        return canvas
    made: list[Any] = []

    def beneath(figsize: tuple[float, float], layout: str) -> Any:
        size = (max(wide, figsize[0]), tall + 0.6 + figsize[1])
        canvas = make(figsize=size, layout=layout)
        above, below = canvas.subfigures(2, 1, height_ratios=[tall, figsize[1]])
        draw_maps(above, image_views, every, largest)
        made.append(canvas)
        return below

    _text(beneath, shown)
    return made[0]


def _bars(make: Callable[..., Any], shares: TargetShares) -> Any:
    labels = [feature.label for feature in shares.features]
    numbers = [signed(score, shares.largest) for score in shares.scores]
    canvas, axes = bar_figure(make, labels, shares.scores, numbers)
    for block in shares.blocks:
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
    axes.set_xlabel(shares.target.unit, fontsize=9, **VERBATIM)
    return canvas


def _strip(make: Callable[..., Any], shares: TargetShares) -> Any:
    canvas, axes = strip_figure(make, shares)
    colour_bar(canvas, axes, shares, orientation="horizontal", shrink=0.3, aspect=40)
    return canvas


def _heat_map(make: Callable[..., Any], shown: Sequence[TargetShares]) -> Any:
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
    colour_bar(canvas, axes, shown[0], orientation="vertical", shrink=1.0, aspect=20)
    return canvas


def _title(shares: TargetShares) -> str:
    target = shares.target
    return f"{short(target.label, 2 * FIGURE_LABEL)}   {signed(target.value, abs(target.value))} {target.unit}"
