"""The comparison as a figure: methods × features, each row on its own scale, beside the rank correlations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from apportion.report.kit import (
    FIGURE_LABEL,
    IMAGE_TOP,
    LIGHT,
    MAX_TICKS,
    SIDE,
    VERBATIM,
    colour_map,
    figure_class,
    fonts,
    image_views_of,
    largest_on,
    order_of,
    overlay,
    short,
    signed,
    strengths,
    target_shares,
    text_members,
    visible,
)
from apportion.results import Comparison

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

MAPS_IN_A_ROW = 4


def comparison_figure(comparison: Comparison) -> matplotlib.figure.Figure:
    """The first target's shares by every method that divides among the same features, and all rank correlations.

    Raises:
        ApportionError: matplotlib is not installed.
    """
    make = figure_class()
    first = next(iter(comparison.values()))
    if image_views_of(first.features, first.pictures):
        canvas = _of_images(make, comparison)
        _heading(canvas, comparison)
        return canvas
    alike = {name: a for name, a in comparison.items() if len(a.features) == len(first.features)}
    count, features = len(comparison), len(first.features)
    side = 0.42 * count
    canvas = make(figsize=(min(20.0, 2.0 + 0.3 * features) + side + 1.2, 2.2 + 0.42 * count), layout="constrained")
    shares, agreement = canvas.subplots(1, 2, width_ratios=[max(2.0, 0.3 * features), max(2.0, side)])
    strengths = [
        [shares.strength(i) for i in range(features)] for a in alike.values() for shares in target_shares(a)[:1]
    ]
    shares.imshow(strengths, cmap=colour_map(), vmin=-1, vmax=1, aspect="auto")
    places = range(0, features, math.ceil(features / MAX_TICKS))
    labels = [short(first.features[i].label, FIGURE_LABEL) for i in places]
    shares.set_xticks(places, labels, rotation=90, fontsize=8, fontfamily=fonts(), **VERBATIM)
    shares.set_yticks(range(len(alike)), list(alike), fontsize=9, **VERBATIM)
    shares.set_title("shares, each row up to its largest", fontsize=9, loc="left")
    _agreement(agreement, comparison)
    for axes in (shares, agreement):
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    _heading(canvas, comparison)
    return canvas


def _of_images(make: Any, comparison: Comparison) -> Any:
    """A map for each method and picture, each on its own scale; text has its bars in `Attribution.plot`."""
    count = len(comparison)
    columns = min(MAPS_IN_A_ROW, count)
    several = max(len(a.pictures) or 1 for a in comparison.values())
    rows = -(-count // columns) * several
    side = 0.42 * count
    wide = columns * (SIDE * 0.8 + 0.2)
    canvas = make(figsize=(wide + side + 2, max(rows * (SIDE * 0.8 + 0.4), side + 1.5) + 0.7), layout="constrained")
    left, right = canvas.subfigures(1, 2, width_ratios=[wide, side + 2])
    axes = left.subplots(rows, columns, squeeze=False)
    for place in axes.flat:
        place.set_axis_off()
    for k, (name, attribution) in enumerate(comparison.items()):
        image_views = image_views_of(attribution.features, attribution.pictures)
        shares = target_shares(attribution, at_most=1)[0]
        largest = largest_on(image_views, [shares])
        for i, image_view in enumerate(image_views[:several]):
            place = axes[k // columns * several + i][k % columns]
            overlay(
                place,
                image_view,
                strengths(image_view.of(shares.scores), largest),
                order_of(image_view, shares)[:IMAGE_TOP],
            )
            words = sum(abs(shares.scores[j]) for j in text_members(attribution.features))
            label = f"{name}\nup to {signed(largest, largest)}" + (" (and text)" if words else "")
            place.set_title(label, fontsize=8, loc="left", parse_math=False)
    _agreement(right.add_subplot(), comparison)
    return canvas


def _heading(canvas: Any, comparison: Comparison) -> None:
    first = next(iter(comparison.values()))
    target = first.explained[0]
    heading = f"{short(target.label, 2 * FIGURE_LABEL)}   {signed(target.value, abs(target.value))} {target.unit}"
    model = f"\n{visible(first.model)}" if first.model else ""
    canvas.suptitle(heading + model, x=0.01, ha="left", fontsize=10, color=LIGHT.ink, **VERBATIM)


def _agreement(axes: matplotlib.axes.Axes, comparison: Comparison) -> None:
    values = comparison.rank_correlations().tolist()
    axes.imshow(values, cmap=colour_map(), vmin=-1, vmax=1, aspect="equal")
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            shown = "–" if value != value else f"{value:.2f}".replace("-", "−")
            colour = LIGHT.text(0 if value != value else value)
            axes.text(j, i, shown, ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(values)), list(comparison), rotation=90, fontsize=8, **VERBATIM)
    axes.set_yticks(range(len(values)), list(comparison), fontsize=8, **VERBATIM)
    axes.set_title("rank correlation", fontsize=9, loc="left")
