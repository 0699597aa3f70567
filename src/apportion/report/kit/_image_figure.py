"""Pictures in a figure: the photograph, and over it the map of each target with its colour bar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.report.kit._image_panel import IMAGE_TOP, order_of, scale_ends
from apportion.report.kit._image_views import ImageView
from apportion.report.kit._labels import short
from apportion.report.kit._paint import ADDS, TAKES, heat, photograph, strengths
from apportion.report.kit._target_shares import TargetShares

#: Inches of a map's side, and how many stand in a row. Targets beyond `MAX_MAPS` are for `attribution[i]`.
SIDE, ROW, MAX_MAPS = 3.0, 4, 12
#: The height of bands such as spectrograms, as a part of that side.
FLAT = 0.5
#: How much of the photograph the strongest share hides.
OPACITY = 0.85
LABEL = 30


def maps_size(count: int) -> tuple[float, float]:
    """Inches of a figure with the photograph and so many maps."""
    panels = 1 + min(count, MAX_MAPS)
    return (SIDE + 0.5) * min(ROW, panels), (SIDE + 0.35) * -(-panels // ROW)


def draw_maps(
    canvas: Any, image_views: Sequence[ImageView], every_shares: Sequence[TargetShares], largest: float
) -> None:
    """Draw the first targets' maps of pictures on a figure or a part of one.

    Args:
        canvas: A matplotlib figure or subfigure.
        image_views: The pictures, a row or more each.
        every_shares: The targets.
        largest: Where the colour scale of all ends.
    """
    shown = every_shares[:MAX_MAPS]
    panels = 1 + len(shown)
    columns = min(ROW, panels)
    rows = -(-panels // columns)
    axes = canvas.subplots(rows * len(image_views), columns, squeeze=False)
    for one in axes.flat:
        one.set_axis_off()
    for k, image_view in enumerate(image_views):
        places = axes[k * rows : (k + 1) * rows].flatten()
        places[0].imshow(photograph(image_view.picture).numpy(), aspect="auto" if image_view.wide else "equal")
        places[0].set_title(image_view.picture.label, fontsize=9, loc="left", parse_math=False)
        for place, shares in zip(places[1:], shown, strict=False):
            name = short(shares.target.label, LABEL) if len(every_shares) > 1 else shares.target.unit
            overlay(
                place,
                image_view,
                strengths(image_view.of(shares.scores), largest),
                order_of(image_view, shares)[:IMAGE_TOP],
            )
            place.set_title(name, fontsize=9, loc="left", parse_math=False)
    every = [shares.scores[i] for shares in shown for image_view in image_views for i in image_view.members]
    _colour_bar(canvas, list(axes[:, -1]), largest, every_shares[0].target.unit, scale_ends(largest, every))


def overlay(axes: Any, image_view: ImageView, strength: Float[Tensor, " member"], outlined: Sequence[int]) -> None:
    """Draw one map over its picture, which is grey, so that colours are shares alone."""
    from matplotlib.collections import LineCollection

    height, width = image_view.size
    aspect = "auto" if image_view.wide else "equal"
    rows, columns = image_view.cells.shape
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    grey = (photograph(image_view.picture).float() @ torch.tensor([0.299, 0.587, 0.114])) / 255
    axes.imshow(grey.numpy(), cmap="gray", vmin=0, vmax=1, extent=extent, aspect=aspect)
    painted = heat(image_view.cells, strength, signed=True).float() / 255
    painted[..., 3] *= OPACITY
    axes.imshow(painted.numpy(), extent=extent, interpolation="nearest", aspect=aspect)
    down, across = height / rows, width / columns
    edges = [
        [(c * across - 0.5, r * down - 0.5), (d * across - 0.5, s * down - 0.5)]
        for m in outlined
        for r, c, s, d in image_view.outline(m)
    ]
    for colour, line in (("black", 2.6), ("white", 1.2)):
        axes.add_collection(LineCollection(edges, colors=colour, linewidths=line, capstyle="projecting"))
    axes.set_axis_off()


def _colour_bar(canvas: Any, axes: list[Any], largest: float, unit: str, ends: tuple[str, str]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    end = largest or 1.0
    bar = canvas.colorbar(
        ScalarMappable(Normalize(-end, end), map_colours()), ax=axes, location="right", shrink=0.8, aspect=20, pad=0.03
    )
    bar.set_ticks([-end, 0.0, end], labels=[ends[0], "0", ends[1]])
    bar.ax.tick_params(length=0, labelsize=8)
    bar.set_label(unit, fontsize=8, parse_math=False)
    bar.outline.set_visible(False)


def map_colours() -> Any:
    """The colours of maps over a grey picture, as matplotlib knows them."""
    from matplotlib.colors import LinearSegmentedColormap

    ends = [tuple(channel / 255 for channel in colour) for colour in (TAKES, (185, 189, 194), ADDS)]
    return LinearSegmentedColormap.from_list("apportion-maps", ends)
