"""Figures of concepts: each concept's map and coalition mean, and the patches that concepts take from each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from apportion.core import ApportionError
from apportion.diffusion._concept_interactions import ConceptInteractions, place_of
from apportion.diffusion._concepts import ConceptMaps
from apportion.report.kit import figure_class, short

if TYPE_CHECKING:
    import matplotlib.figure

#: How many concepts, and pairs, are shown at most.
ACROSS = 6
LABEL = 20
OPACITY = 0.8


def interactions_figure(
    found: ConceptInteractions, image: Any = None, *, concepts: Sequence[str] | None = None
) -> matplotlib.figure.Figure:
    """A row of maps, one of the same concepts' coalition means, and the strongest effects on them.

    Each of the three has its own colour scale: coalition means are no shares, and never near 0. The arguments are those
    of `ConceptInteractions.plot`; the image is in bytes or from 0 to 1.
    """
    shown = _shown(found, concepts)
    pairs = [pair for pair in found.top(len(found.concepts) ** 2) if pair[1] in shown][:ACROSS]
    places = [found.concepts.index(name) for name in shown]
    taken = [-found.values[found.concepts.index(j), found.concepts.index(i)] for j, i, _ in pairs]
    takings = [f"{short(j, LABEL)} takes\n{-value:.1f} patches from\n{short(i, LABEL)}" for j, i, value in pairs]
    labels = [short(name, LABEL) for name in shown]
    maps, means = [found.maps[c] for c in places], [found.coalition_mean[c] for c in places]
    groups = [
        (maps, [f"{name}: map" for name in labels], "map: part of the patch"),
        (means, [f"{name}: coalition mean" for name in labels], "coalition mean: mean part"),
        (taken, takings, "part taken"),
    ]
    return _rows(groups, image)


def maps_figure(
    found: ConceptMaps, image: Any = None, *, concepts: Sequence[str] | None = None
) -> matplotlib.figure.Figure:
    """A row of the maps; arguments and errors as in `interactions_figure`."""
    shown = _shown(found, concepts)
    labels = [short(name, LABEL) for name in shown]
    return _rows([([found.of(name) for name in shown], labels, "map: part of the patch")], image)


def _rows(groups: Sequence[tuple[Sequence[Tensor], Sequence[str], str]], image: Any) -> matplotlib.figure.Figure:
    """Groups of maps, one below the other, each with its titles and unit, beside the picture."""
    picture = None if image is None else _picture(image)
    beside, columns = picture is not None, max(len(groups[0][0]), 2)
    below = [-(-len(maps) // columns) for maps, _, _ in groups]
    high = 1.9 * sum(below) + 0.5 * sum(below[2:])
    canvas = figure_class()(figsize=(1.75 * (columns + beside) + 1.2, high), layout="constrained")
    axes = canvas.subplots(sum(below), columns + beside, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    if picture is not None:
        axes[0, 0].imshow(picture.numpy(), interpolation="nearest")
        axes[0, 0].set_title("picture", fontsize=8)
    start = 0
    for (maps, titles, unit), height in zip(groups, below, strict=True):
        if maps:
            _row(canvas, axes[start : start + height], beside, maps, titles, unit, picture)
        start += height
    return canvas


def _shown(found: ConceptMaps | ConceptInteractions, concepts: Sequence[str] | None) -> list[str]:
    """Names of the concepts to show, in the order in which they were given."""
    if concepts is None:
        largest = found.maps.sum((1, 2)).argsort(descending=True, stable=True)[:ACROSS].sort().values
        return [found.concepts[c] for c in largest.tolist()]
    for name in concepts:
        place_of(name, found.concepts)  # refuses a name that is no concept
    if not concepts:
        raise ApportionError("concepts=[] shows nothing; name some, or leave it out.")
    return list(concepts)


def _row(
    canvas: Any, axes: Any, beside: bool, maps: Sequence[Tensor], titles: Sequence[str], unit: str, picture: Any
) -> None:
    """Maps with a common colour scale, and its bar."""
    ends = (min(part.min().item() for part in maps), max(part.max().item() for part in maps))
    places = axes[:, beside:].flatten()
    drawn = [_drawn(axis, part, picture, ends) for axis, part in zip(places, maps, strict=False)]
    for axis, title in zip(places, titles, strict=False):
        axis.set_title(title, fontsize=8, parse_math=False)
    bar = canvas.colorbar(drawn[0], ax=axes, shrink=0.8, aspect=14 * len(axes))
    bar.set_label(unit, fontsize=7)
    bar.ax.tick_params(labelsize=7)


def _drawn(axis: Any, values: Tensor, picture: Tensor | None, ends: tuple[float, float]) -> Any:
    """One map over the grey picture."""
    rows, columns = values.shape
    extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    if picture is not None:
        axis.imshow(picture.mean(-1).numpy(), cmap="gray", vmin=0, vmax=1, extent=extent)
    alpha = OPACITY if picture is not None else 1.0
    return axis.imshow(
        values.numpy(), cmap="magma", vmin=ends[0], vmax=ends[1], alpha=alpha, extent=extent, interpolation="nearest"
    )


def _picture(image: Any) -> Tensor:
    """(height, width, 3) from 0 to 1."""
    picture = torch.as_tensor(image)
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise ApportionError(f"an image of shape {tuple(picture.shape)} was given; give (height, width, 3).")
    picture = picture.detach().cpu()
    return picture.float().clamp(0, 1) if picture.is_floating_point() else picture.float() / 255
