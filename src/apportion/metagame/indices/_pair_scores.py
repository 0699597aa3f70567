"""First-order pair scores: the sum of two features' attributions, a baseline for second-order indices."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def pair_scores(first_order: Float[Tensor, "players targets"]) -> Float[Tensor, "players players targets"]:
    r"""The score $|R_a + R_b|$ of every pair of features; on the diagonal $|R_a|$.

    It ranks pairs without measuring any interaction: second-order values must do better. The scores do not sum to
    anything in particular.
    """
    scores = (first_order[:, None] + first_order[None]).abs()
    for own, single in zip(scores.unbind(-1), first_order.abs().unbind(-1), strict=True):
        own.diagonal().copy_(single)
    return scores
