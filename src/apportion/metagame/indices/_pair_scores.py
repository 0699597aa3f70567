"""First-order pair scores: what two features have in sum, where the second order is not known."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def pair_scores(first_order: Float[Tensor, "players targets"]) -> Float[Tensor, "players players targets"]:
    r"""The score $|R_a + R_b|$ of every pair of features; on the diagonal $|R_a|$.

    A ranking of pairs that knows nothing of how the two meet: what second-order values must do better than. Scores are
    no amounts, and sum to nothing in particular.

    Args:
        first_order: Each player's attribution R.
    """
    scores = (first_order[:, None] + first_order[None]).abs()
    for own, single in zip(scores.unbind(-1), first_order.abs().unbind(-1), strict=True):
        own.diagonal().copy_(single)
    return scores
