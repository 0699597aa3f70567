"""The figure of interactions: a matrix, arrows over the text, or the image once for each word."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from apportion.core import ApportionError
from apportion.report.interactions._graph import SHOWN, graph_of
from apportion.report.interactions._reading import directed, index_of, largest_between, name
from apportion.report.kit import figure_class, image_views_of, largest_size, sign_colour, signed, text_members, visible
from apportion.results import Interactions

if TYPE_CHECKING:
    import matplotlib.figure

KINDS = ("auto", "matrix", "graph", "words-patches")
#: Images in a line of the figure.
ACROSS = 5
#: The graph's pixels in an inch.
DOTS = 96
#: The longer side of a matrix whose sides carry labels, and the most features of a graph that `"auto"` draws.
MAX_LABELS, MAX_GRAPH = 80, 12


def interactions_figure(found: Interactions, kind: str = "auto", *, top: int | None = None) -> matplotlib.figure.Figure:
    """The interactions as a matplotlib figure.

    Args:
        found: What is drawn.
        kind: `"matrix"`, `"graph"`, `"words-patches"`, or `"auto"`: the image once for each source where the targets
            are parts of one, a graph of at most 12 features of a text, else a matrix.
        top: How many effects a graph shows; 12 unless told.

    Raises:
        ApportionError: Matplotlib is missing, the kind is unknown, or it does not fit what there is.
    """
    make = figure_class()
    if kind not in KINDS:
        raise ApportionError(f"there is no kind of figure {kind!r}; there are {', '.join(KINDS)}.")
    if top is not None and top < 1:
        raise ApportionError(f"top={top} shows nothing; give 1 or more.")
    if kind == "auto":
        pictured = bool(image_views_of(found.features, found.pictures))
        few = max(found.values.shape) <= MAX_GRAPH and graph_of(found) is not None
        kind = "words-patches" if pictured and not found.square else "graph" if few else "matrix"
    draw = {"matrix": _matrix, "words-patches": _images}.get(kind)
    drawn = _graph(found, SHOWN if top is None else top, make) if draw is None else draw(found, make)
    explained = found.target
    value = f"{visible(explained.label)} {signed(explained.value, abs(explained.value))}"
    drawn.suptitle(f"{value}, {index_of(found)} of {found.method}", fontsize=10, parse_math=False)
    return drawn


def _matrix(found: Interactions, figure_of: Any) -> matplotlib.figure.Figure:
    """All values; what a feature has by itself is told apart by a scale and colours of its own."""
    height, width = found.values.shape
    side = 0.42 if max(height, width) <= 40 else 0.12
    drawn = figure_of(figsize=(3.6 + side * width, 2.2 + side * height), layout="constrained")
    axes = drawn.subplots()
    nowhere = torch.full_like(found.values, math.nan)
    plays = [(j, i) for i, j in enumerate(found.source_of) if j is not None]
    for j, i in plays:
        nowhere[j, i] = found.values[j, i]
    most = largest_size(nowhere.flatten().tolist())
    if plays and most:
        own = axes.imshow(nowhere.numpy(), cmap="PuOr_r", vmin=-most, vmax=most)
        drawn.colorbar(own, ax=axes, label=f"by itself, {found.target.unit}", shrink=0.7)
    between = torch.where(nowhere.isnan(), found.values, math.nan)
    largest = largest_between(found) or 1.0
    laid = axes.imshow(between.numpy(), cmap="RdBu_r", vmin=-largest, vmax=largest)
    drawn.colorbar(laid, ax=axes, label=f"effect, {found.target.unit}", shrink=0.7)
    if directed(found):
        axes.set_xlabel("on")
        axes.set_ylabel("from")
    if max(height, width) <= MAX_LABELS:
        axes.set_xticks(range(width), [name(f) for f in found.features], rotation=60, ha="right", parse_math=False)
        axes.set_yticks(range(height), [name(f) for f in found.sources], parse_math=False)
    return drawn


def _graph(found: Interactions, top: int, figure_of: Any) -> matplotlib.figure.Figure:
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path

    graph = graph_of(found, top)
    if graph is None:
        raise ApportionError("a graph needs effects of one part of a text on another; draw kind='matrix' instead.")
    drawn = figure_of(figsize=(max(4.0, graph.width / DOTS), 0.5 + graph.height / DOTS), layout="constrained")
    axes = drawn.subplots()
    axes.set_axis_off()
    axes.set(xlim=(0, graph.width), ylim=(graph.height, 0), aspect="equal")
    for arrow in reversed(graph.arrows):
        colour, alpha = sign_colour(arrow.effect.value), arrow.opacity
        curve = Path(arrow.curve, [Path.MOVETO, *[Path.CURVE4] * 3])
        line = arrow.width * 72 / DOTS
        axes.add_patch(PathPatch(curve, fill=False, linewidth=line, capstyle="butt", color=colour, alpha=alpha))
        if directed(found):
            axes.add_patch(Polygon(arrow.head, linewidth=0, color=colour, alpha=alpha))
    for slots, middle in graph.rows:
        for slot in slots:
            axes.text(slot.x, middle, slot.label, ha="center", va="center", fontsize=10, parse_math=False)
    return drawn


def _images(found: Interactions, figure_of: Any) -> matplotlib.figure.Figure:
    """The picture once for each source, with what it gives to the parts and takes from them."""
    image_views = image_views_of(found.features, found.pictures)
    shown = [j for j in text_members(found.sources) if not found.sources[j].template]
    if len(image_views) != 1 or not shown:
        raise ApportionError(
            f"kind='words-patches' needs words that move parts of one picture; here {len(shown)} words move "
            f"{len(image_views)} pictures: draw kind='matrix' instead."
        )
    (image_view,) = image_views
    across = min(ACROSS, len(shown))
    down = math.ceil(len(shown) / across)
    drawn = figure_of(figsize=(2.1 * across + 0.9, 2.3 * down + 0.4), layout="constrained")
    plots = drawn.subplots(down, across, squeeze=False).flatten()
    largest = largest_size(found.values[shown][:, list(image_view.members)].flatten().tolist()) or 1.0
    height, width = image_view.size
    for plot in plots:
        plot.set_axis_off()
    laid = None
    for plot, j in zip(plots, shown, strict=False):
        plot.imshow(image_view.picture.pixels.float().mean(-1).numpy(), cmap="gray", vmin=0, vmax=255)
        scores = torch.cat([image_view.of(found.values[j].tolist()), torch.tensor([math.nan], dtype=torch.float64)])
        laid = plot.imshow(
            scores[image_view.cells.long()].numpy(),
            cmap="RdBu_r",
            vmin=-largest,
            vmax=largest,
            alpha=0.65,
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        )
        plot.set_title(name(found.sources[j]), fontsize=10, parse_math=False)
    drawn.colorbar(laid, ax=list(plots), label=found.target.unit, shrink=0.7)
    return drawn
