"""The figure of a similarity's pairs: a matrix, or the image once for each word."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor

from apportion.core import Feature, Picture
from apportion.report.kit import figure_class, visible
from apportion.results import Pairwise

if TYPE_CHECKING:
    import matplotlib.figure

#: Images in a line of the figure.
ACROSS = 5


def pairwise_figure(pairs: Pairwise) -> matplotlib.figure.Figure:
    """A matrix of two texts; for a text and an image, the image once for each word that is not a special token.

    Raises:
        ApportionError: Matplotlib is missing.
    """
    make = figure_class()
    of_images = [any(f.image is not None for f in side) for side in (pairs.rows, pairs.columns)]
    if of_images[0] == of_images[1] or not pairs.pictures:
        return _matrix(pairs, make)
    scores = pairs.scores.T if of_images[0] else pairs.scores
    words, patches = (pairs.columns, pairs.rows) if of_images[0] else (pairs.rows, pairs.columns)
    return _images(scores, words, patches, pairs, make)


def _matrix(pairs: Pairwise, figure_of: Any) -> matplotlib.figure.Figure:
    height, width = pairs.scores.shape
    side = 0.42 if max(height, width) <= 40 else 0.12
    drawn = figure_of(figsize=(2.5 + side * width, 1.5 + side * height), layout="constrained")
    axes = drawn.subplots()
    largest = pairs.scores.abs().max().item() or 1.0
    image = axes.imshow(pairs.scores.numpy(), cmap="RdBu_r", vmin=-largest, vmax=largest)
    if max(height, width) <= 80:
        axes.set_xticks(range(width), [_label(f) for f in pairs.columns], rotation=60, ha="right", parse_math=False)
        axes.set_yticks(range(height), [_label(f) for f in pairs.rows], parse_math=False)
    drawn.colorbar(image, ax=axes, label=pairs.explained.unit, shrink=0.7)
    _title(drawn, pairs)
    return drawn


def _images(
    scores: Tensor, words: tuple[Feature, ...], patches: tuple[Feature, ...], pairs: Pairwise, figure_of: Any
) -> matplotlib.figure.Figure:
    shown = [i for i, word in enumerate(words) if not word.template]
    across = min(ACROSS, len(shown))
    down = math.ceil(len(shown) / across)
    drawn = figure_of(figsize=(2.1 * across + 0.9, 2.3 * down + 0.4), layout="constrained")
    plots = drawn.subplots(down, across, squeeze=False).flatten()
    picture = pairs.pictures[patches[0].image or 0]
    largest = scores[shown].abs().max().item() or 1.0
    for plot in plots:
        plot.set_axis_off()
    laid = None
    for plot, i in zip(plots, shown, strict=False):
        plot.imshow(picture.pixels.float().mean(-1).numpy(), cmap="gray")
        painted = picture.painted(_by_number(scores[i], patches, picture)).numpy()
        laid = plot.imshow(painted, cmap="RdBu_r", vmin=-largest, vmax=largest, alpha=0.65)
        plot.set_title(_label(words[i]), fontsize=10, parse_math=False)
    drawn.colorbar(laid, ax=list(plots), label=pairs.explained.unit, shrink=0.7)
    _title(drawn, pairs)
    return drawn


def _by_number(scores: Tensor, patches: tuple[Feature, ...], picture: Picture) -> Tensor:
    """Scores by the patches' numbers in their picture."""
    numbers = scores.new_zeros(int(picture.owner.max()) + 1)
    for score, patch in zip(scores, patches, strict=True):
        for number in patch.positions:
            numbers[number] = score
    return numbers


def _label(feature: Feature) -> str:
    return visible(feature.label.strip() or feature.label)


def _title(drawn: matplotlib.figure.Figure, pairs: Pairwise) -> None:
    drawn.suptitle(f"{pairs.explained.label} {pairs.explained.value:.3g}, {pairs.method}", fontsize=10)
