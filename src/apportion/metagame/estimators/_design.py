"""Design: the sampled coalitions that belong to the game of one target, and a least-squares fit to them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from apportion.games.values import stratum_variance
from apportion.metagame.estimators._draws import Draws


@dataclass(frozen=True)
class Design:
    """The game of the targets that are one player, or of those that are none; the same for all their outputs.

    The fit's coefficients are the others' deviations from equal values, and those of two curves.

    Args:
        rows: The indices of its coalitions in the sample.
        others: Its players: all but the target.
        present: Which of them are present in each row.
        sizes: How many of them are.
        shares: The sampled share of all coalitions of each row's size.
        regressors: A column for each other player and for each curve.
        solution: From observations to coefficients.
        leverages: The influence of each observation on its own fit.
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
        """The standard errors of Σ solution · residual, for samples stratified by size.

        Args:
            solution: The weight of each row in each value.
            residuals: Payoffs less their out-of-sample predictions.
        """
        variance = torch.zeros(len(solution), residuals.shape[1], dtype=torch.float64)
        for size in self.sizes.unique():
            members = self.sizes == size
            left = 1 - self.shares[members][0]  # 0 if all coalitions of that size were drawn
            variance += left * stratum_variance(solution[:, members], residuals[members])
        return variance.sqrt()


def design(draws: Draws, player: int | None) -> Design | None:
    r"""The game of a target, with a weighted least-squares fit; None if the sample cannot distinguish the others.

    With m others, the coalitions of s of them are weighted so that their sum is the Shapley kernel's
    $1 / (s (m - s))$. The row of S is $1[j \in S] - s / m$ with the curves $s (m - s)$ and $1 / (s + 1)$, the latter
    less the line between its ends. Over all coalitions rows and curves are orthogonal, so that curves do not change the
    values. Over a sample they separate the effect of how many players are present (attention, say, is divided among
    more) from the effect of which ones.

    Args:
        draws: The sampled coalitions.
        player: The target's player, or None.
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
