"""Design: which of the coalitions drawn make the game of one target, and a least-squares fit to them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from apportion.games.values import stratum_variance
from apportion.metagame.estimators._draws import Draws


@dataclass(frozen=True)
class Design:
    """The game of the targets that are one player, or of those that do not play; the same for all their outputs.

    The fit's coefficients are the others' values less what each would have, were all equal, and those of two curves.

    Args:
        rows: Which of the coalitions drawn belong to it.
        others: Who plays: all but the target.
        present: Which of them are present.
        sizes: How many of them.
        shares: Which share of all coalitions of its size each row was drawn with.
        regressors: A column for each other player and for each curve.
        solution: From what is observed to the coefficients.
        leverages: How far each observation decides its own fit.
    """

    rows: Int[Tensor, " rows"]
    others: Int[Tensor, " others"]
    present: Bool[Tensor, "rows others"]
    sizes: Int[Tensor, " rows"]
    shares: Float[Tensor, " rows"]
    regressors: Float[Tensor, "rows coefficients"]
    solution: Float[Tensor, "coefficients rows"]
    leverages: Float[Tensor, "rows 1"]

    def standard_errors(
        self, solution: Float[Tensor, "others rows"], residuals: Float[Tensor, "rows outputs"]
    ) -> Float[Tensor, "others outputs"]:
        """Those of Σ solution · residual, when as many rows of every size are drawn at random.

        Args:
            solution: What each row counts for each value.
            residuals: What a forecast that did not know the rows misses of their payoffs.
        """
        variance = torch.zeros(len(solution), residuals.shape[1], dtype=torch.float64)
        for size in self.sizes.unique():
            members = self.sizes == size
            left = 1 - self.shares[members][0]  # none where there is no other coalition of that size
            variance += left * stratum_variance(solution[:, members], residuals[members])
        return variance.sqrt()


def design(draws: Draws, player: int | None) -> Design | None:
    r"""The game of a target, with a weighted least-squares fit; None where the coalitions do not tell the others apart.

    With m others, the coalitions of s of them are weighted so that together they have the Shapley kernel's
    $1 / (s (m - s))$. The row of S is $1[j \in S] - s / m$ with the curves $s (m - s)$ and $1 / (s + 1)$, the latter
    less the line between its ends. Over all coalitions rows and curves are orthogonal, so that curves do not change the
    values. Over some of them they keep apart what changes merely because more are present (attention, say, is divided
    among more) and what those do who happen to be.

    Args:
        draws: The coalitions.
        player: The player that the target is; None where it does not play.
    """
    n = draws.coalitions.shape[1]
    others = torch.tensor([j for j in range(n) if j != player], dtype=torch.long)
    chosen = draws.coalitions if player is None else draws.coalitions & draws.coalitions[:, player : player + 1]
    rows = chosen[:, others].any(1).nonzero()[:, 0]
    present = chosen[rows][:, others]
    m, sizes = len(others), present.sum(1)
    s = sizes.double()[:, None]
    bend = 1 / (s + 1) - 1 + s / (m + 1)
    regressors = torch.cat([present.double() - s / m, s * (m - s), bend], 1)
    weights = 1 / (s * (m - s) * sizes.bincount(minlength=m)[sizes][:, None])
    root = weights.sqrt()
    left, singular, right = torch.linalg.svd(root * regressors, full_matrices=False)
    needed = m - 1 + min(2, m - 1)  # m − 1 sizes determine no more curves
    if len(singular) < needed or singular[needed - 1] < 1e-9 * singular[0]:
        return None
    left, singular, right = left[:, :needed], singular[:needed], right[:needed]
    return Design(
        rows=rows,
        others=others,
        present=present,
        sizes=sizes,
        shares=draws.shares[sizes + (player is not None)],
        regressors=regressors,
        solution=(right.T / singular) @ left.T * root.T,
        leverages=(left**2).sum(1, keepdim=True),
    )
