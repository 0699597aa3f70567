"""A figure of bars: a label, a bar and a number for each of a few amounts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from apportion.report.kit._colour import LIGHT, sign_colour
from apportion.report.kit._drawing import FIGURE_LABEL, QUIET, VERBATIM, fonts
from apportion.report.kit._labels import short


def bar_figure(
    make: Callable[..., Any],
    labels: Sequence[str],
    values: Sequence[float],
    numbers: Sequence[str],
    *,
    longest: int = FIGURE_LABEL,
) -> tuple[Any, Any]:
    """A figure, or what `make` gives instead of one, with a bar for each value from the top; and its axes.

    Labels have at most `longest` characters.
    """
    count = len(values)
    canvas = make(figsize=(7.2, 1.3 + 0.26 * count), layout="constrained")
    axes = canvas.add_subplot()
    places = range(count)
    axes.barh(places, values, height=0.72, color=[sign_colour(value) for value in values])
    axes.set_yticks(places, [short(label, longest) for label in labels], fontfamily=fonts(), **VERBATIM)
    axes.invert_yaxis()
    axes.axvline(0, color=LIGHT.ink, linewidth=0.8)
    for place, (value, number) in enumerate(zip(values, numbers, strict=True)):
        axes.annotate(
            number,
            (value if math.isfinite(value) else 0, place),
            xytext=(-4 if value < 0 else 4, 0),
            textcoords="offset points",
            ha="right" if value < 0 else "left",
            va="center",
            fontsize=8,
            color=QUIET,
            **VERBATIM,
        )
    # The numbers stand outside the bars and need their room.
    axes.margins(x=0.2, y=0.6 / max(1, count))
    axes.tick_params(axis="y", length=0)
    axes.spines[["left", "top", "right"]].set_visible(False)
    return canvas, axes
