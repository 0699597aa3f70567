"""Effect captured: how early a ranking of pairs comes to those with large effects."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError


def effect_captured(scores: Float[Tensor, " pairs"], effects: Float[Tensor, " pairs"]) -> float:
    r"""The area under the effect that the best-ranked pairs hold: 1 for the best order, 0 for a random one on average.

    Pairs are ranked by falling |score|. The curve is the sum of $|\Delta|$ over the first k of m pairs as a share of
    all; A, its mean over k = 1 … m, is $(m+1)/2m$ for a random order on average. The number is
    $(A - A_{random}) / (A_{oracle} - A_{random})$, where the oracle ranks by $|\Delta|$ itself; −1 is the worst order.
    Of pairs with the same score each stands for their mean, which is the expectation over their orders.

    Args:
        scores: Of each pair, or of each direction.
        effects: Of the same; see `pair_effects` and `directed_effects`.

    Returns:
        NaN where all effects are of one size, so that no order is better than another.

    Raises:
        ApportionError: There are none, or a number is NaN or infinite.
    """
    if not len(scores):
        raise ApportionError("there is no pair to rank; give scores and effects of 1 pair or more.")
    if not bool(scores.isfinite().all() and effects.isfinite().all()):
        raise ApportionError("a score or an effect is NaN or infinite, so there is no ranking to measure.")
    found, size = scores.abs().double(), effects.abs().double()
    best, random = _area(size, size), size.mean() * (len(size) + 1) / 2
    # Equal sizes leave rounding alone.
    if best - random <= 1e-12 * best:
        return float("nan")
    return ((_area(found, size) - random) / (best - random)).item()


def _area(scores: Float[Tensor, " pairs"], size: Float[Tensor, " pairs"]) -> Float[Tensor, ""]:
    """The mean of the curve, up to the total: a pair at rank r is in all sums from r on."""
    _, level, count = torch.unique(-scores, return_inverse=True, return_counts=True)
    mean = torch.zeros(len(count), dtype=size.dtype).index_add_(0, level, size) / count
    return torch.cumsum(mean.repeat_interleave(count), 0).mean()
