"""Segmentation: how well maps of concepts cut a picture into the regions that the concepts name."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.core import ApportionError


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    r"""How the maps of concepts agree with the true regions of one picture, each number from 0 to 1.

    Every pixel gets the concept whose map is largest there, also one that is not in the picture; of equal maps the
    first. *Present* are the concepts whose true region holds a pixel.

    Args:
        accuracy: Part of the pixels with a true concept that get it.
        miou: Mean over present concepts of |pixels that get it ∩ its region| / |pixels that get it ∪ its region|.
            Pixels without a true concept count in neither.
        threshold_miou: The same where each map is cut by itself, at its own mean over the pixels that count, so that a
            pixel may belong to several concepts.
        mean_ap: Mean over present concepts of the average precision of their maps: pixels that count, ranked by falling
            value, $\sum_n (R_n - R_{n-1})\,P_n$ over the distinct values $n$, with $P_n$ and $R_n$ precision and recall
            of all pixels of that value or a larger one. A constant map has its region's part of the picture.
    """

    accuracy: float
    miou: float
    threshold_miou: float
    mean_ap: float


def segmentation(maps: Float[Tensor, "concept row col"], regions: Bool[Tensor, "concept height width"]) -> Segmentation:
    """Compare maps of concepts with their true regions.

    Args:
        maps: A number for each patch; each patch's pixels share it.
        regions: The true pixels of each concept, all false for one that is not in the picture. No pixel has two.

    Raises:
        ApportionError: The regions do not fit the maps' grid, overlap or are all empty, or a map is not finite.
    """
    (rows, columns), (height, width) = maps.shape[1:], regions.shape[1:]
    if len(maps) != len(regions):
        raise ApportionError(f"{len(maps)} maps were given for {len(regions)} regions; give one region for each map.")
    if height % rows or width % columns:
        raise ApportionError(
            f"regions of {height} × {width} pixels do not divide into {rows} × {columns} patches; resize them first."
        )
    if not regions.any() or bool((regions.sum(0) > 1).any()):
        raise ApportionError("regions overlap or are all empty; give each pixel one concept at most, one some pixels.")
    if not maps.isfinite().all():
        raise ApportionError("a map holds numbers that are not finite, which cannot be ranked.")
    wide = maps.repeat_interleave(height // rows, 1).repeat_interleave(width // columns, 2)
    known = regions.any(0)
    scores, truth = wide[:, known], regions[:, known]  # (concept, pixel that counts)
    given = torch.nn.functional.one_hot(scores.argmax(0), len(maps)).T.bool()
    present = truth.any(1)
    return Segmentation(
        accuracy=(given & truth).any(0).double().mean().item(),
        miou=_iou(given, truth)[present].mean().item(),
        threshold_miou=_iou(scores > scores.mean(1, keepdim=True), truth)[present].mean().item(),
        mean_ap=sum(average_precision(scores[k], truth[k]) for k in present.nonzero().flatten().tolist())
        / int(present.sum()),
    )


def average_precision(scores: Float[Tensor, " item"], truth: Bool[Tensor, " item"]) -> float:
    """The mean precision over the true items as they are found by falling score; equal scores come at once.

    Raises:
        ApportionError: No item is true.
    """
    if not truth.any():
        raise ApportionError("no item is true, so that there is no precision to average.")
    levels, level_of = scores.unique(return_inverse=True)  # rising
    hits = torch.bincount(level_of, truth.double(), len(levels)).flip(0)
    count = torch.bincount(level_of, minlength=len(levels)).flip(0)
    precision = hits.cumsum(0) / count.cumsum(0)
    return ((hits * precision).sum() / hits.sum()).item()


def _iou(given: Tensor, truth: Tensor) -> Tensor:
    """For each concept; NaN where neither holds a pixel."""
    return (given & truth).sum(1).double() / (given | truth).sum(1)
