"""One score a pair: both directions of a second order made one, so that every pair is ranked once."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError


def one_score_a_pair(values: Float[Tensor, "players players"]) -> Float[Tensor, "players players"]:
    r"""The score of every unordered pair, $|\varphi_{j \to i} + \varphi_{i \to j}|$; 0 on the diagonal.

    Of a symmetric second order it is twice the size of its values, which ranks alike. The larger of the two directions
    would be no fair score: it gives a method that has directions two chances for each pair.

    Args:
        values: The second order, such as `Interactions.values` of players that are their own targets.

    Raises:
        ApportionError: A value is NaN or infinite, so it ranks nothing.
    """
    if not bool(values.isfinite().all()):
        raise ApportionError(f"{int((~values.isfinite()).sum())} values are NaN or infinite, so they rank no pairs.")
    scores = (values + values.T).abs()
    scores.fill_diagonal_(0)
    return scores


def of_pairs(scores: Float[Tensor, "players players"]) -> Float[Tensor, " pairs"]:
    """What stands above the diagonal, row by row.

    Raises:
        ApportionError: There is no pair, a score is NaN or infinite, or the two directions of a pair differ.
    """
    n = len(scores)
    if n < 2:
        raise ApportionError(f"{n} player makes no pair; give 2 or more.")
    if not bool(scores.isfinite().all()):
        raise ApportionError(f"{int((~scores.isfinite()).sum())} scores are NaN or infinite, so they rank no pairs.")
    if not bool((scores == scores.T).all()):
        raise ApportionError("the scores of a pair differ by direction; make them one with one_score_a_pair.")
    rows, columns = scores.new_ones(n, n).triu(1).nonzero(as_tuple=True)
    found: Tensor = scores[rows, columns]
    return found
