"""Shapley values as the best linear fit to a game: KernelSHAP and LeverageSHAP."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.games._game import CooperativeGame
from apportion.games.values._estimate import Estimate
from apportion.games.values._exact import exact_shapley
from apportion.games.values._pairs import Pairs, drawn_by_kernel, drawn_by_leverage

#: With fewer coalitions per player the fit is worse than equal shares of the payoff.
FEWEST_PER_PLAYER = 3


def kernel_shap(game: CooperativeGame, *, budget: int, seed: int = 0) -> Estimate:
    r"""Shapley values by regression on coalitions drawn in proportion to the Shapley kernel.

    The Shapley values are the $\phi$ with $\sum_i \phi_i = f(N) - f(\emptyset)$ that minimise
    $\sum_T \mu_T (f(T) - f(\emptyset) - \sum_{i \in T} \phi_i)^2$, $\mu_T = 1 / (\binom{n}{|T|} |T| (n - |T|))$. Each
    coalition is paired with its complement. Sizes that the budget covers are taken whole, the smallest and largest
    first, as in the authors' code; the others are drawn with replacement in proportion to $\mu$, and a coalition drawn
    twice counts twice. With a budget for all $2^n$ coalitions the values are exact. The standard errors come from the
    residuals of the fit (see `leverage_shap`).

    Args:
        game: The game.
        budget: How many coalitions may be evaluated, full and empty included.
        seed: Seed of the random coalitions.

    Raises:
        ApportionError: The budget is below both 3n and 2^n, or the fit does not determine every player's value.

    Source:
        Lundberg and Lee 2017, arXiv 1705.07874, theorem 2; pairs: Covert and Lee 2021, arXiv 2012.01536.
    """
    return fitted_to(game, budget, seed, drawn_by_kernel)


def leverage_shap(game: CooperativeGame, *, budget: int, seed: int = 0) -> Estimate:
    r"""Shapley values by regression on coalitions drawn by their leverage.

    The same regression as in `kernel_shap`. The leverage score of a coalition is $1 / \binom{n}{|T|}$, so every size is
    drawn equally often; within a size, coalitions are drawn without replacement, each with its complement, and weighted
    by $\mu_T$ over the share of their size that was drawn. With a budget for all $2^n$ coalitions the values are exact.

    The standard errors are a sandwich estimate: a pair of coalitions T moves the values by
    $H^{-1} a_T w_T r_T$ ($a_T$ its centred row, $w_T$ its weight, $r_T$ its leave-one-out residual,
    $H = \sum_T w_T a_T a_T^\top$); the variance of their sum is that of a sample stratified by size, in which sizes
    taken whole have no variance. None when a value depends on a single pair.

    Args:
        game: The game.
        budget: How many coalitions may be evaluated, full and empty included.
        seed: Seed of the random coalitions.

    Raises:
        ApportionError: The budget is below both 3n and 2^n, or the fit does not determine every player's value.

    Source:
        Musco and Witter 2024, arXiv 2410.01917, algorithm 1. The numbers of pairs by size are fixed (their expectation,
        rounded), where the paper tosses a coin for every coalition; the authors' code does the same.
    """
    return fitted_to(game, budget, seed, drawn_by_leverage)


def fitted_to(
    game: CooperativeGame, budget: int, seed: int, draw: Callable[[int, int, torch.Generator], Pairs]
) -> Estimate:
    """Shapley values by regression on the coalitions that `draw` returns."""
    n = game.players
    fewest = min(FEWEST_PER_PLAYER * n, 2**n)
    if budget < fewest:
        raise ApportionError(
            f"budget={budget} is too small for a regression on {n} players; give at least {fewest}, "
            "or fewer players such as words or sentences."
        )
    if n == 1:
        return exact_shapley(game)
    pairs = draw(n, min(budget - 2, 2**n - 2) // 2, torch.Generator().manual_seed(seed))
    both = game.values(torch.cat([pairs.coalitions, ~pairs.coalitions])).unflatten(0, (2, -1))
    total = game.full - game.empty
    rows = pairs.coalitions.double() - pairs.coalitions.double().mean(1, keepdim=True)
    # The rows of a pair are each other's negative, so only half the difference of its payoffs enters the fit.
    surplus = (2 * pairs.coalitions.sum(1) - n)[:, None] * total / (2 * n)
    deviations, errors = _fitted(rows, (both[0] - both[1]) / 2 - surplus, pairs, budget)
    # The deviations sum to 0 up to rounding; the subtraction makes the sum of the values exact.
    return Estimate.of(game, total / n + deviations - deviations.mean(0), errors)


def _fitted(
    rows: Float[Tensor, "pairs players"], observed: Float[Tensor, "pairs outputs"], pairs: Pairs, budget: int
) -> tuple[Float[Tensor, "players outputs"], Float[Tensor, "players outputs"] | None]:
    """The weighted least-squares solution that sums to 0, and its standard errors."""
    players = rows.shape[1]
    root = pairs.weights.sqrt()[:, None]
    left, singular, right = torch.linalg.svd(root * rows, full_matrices=False)
    if len(singular) < players - 1 or singular[players - 2] < 1e-9 * singular[0]:
        raise ApportionError(
            f"the coalitions drawn with budget={budget} do not determine the values of {players} players; "
            f"give {6 * players} or more."
        )
    left, singular, right = left[:, : players - 1], singular[: players - 1], right[: players - 1]
    solution = (right.T / singular) @ left.T * root.T
    values = solution @ observed
    # All draws of the same coalition are left out together, since they predict each other.
    _, same = pairs.coalitions.unique(dim=0, return_inverse=True)
    leverages = torch.zeros(len(rows), 1, dtype=torch.float64).index_add_(0, same, (left**2).sum(1, keepdim=True))[same]
    certain = (pairs.drawn == 1)[pairs.strata]
    if bool((leverages[~certain] > 1 - 1e-6).any()):
        return values, None
    residuals = (observed - rows @ values) / (1 - leverages).clamp_min(1e-6)
    variance = torch.zeros_like(values)
    for stratum, drawn in enumerate(pairs.drawn.tolist()):
        members = pairs.strata == stratum
        variance += (1 - drawn) * stratum_variance(solution[:, members], residuals[members])
    return values, variance.sqrt()


def stratum_variance(
    solution: Float[Tensor, "players pairs"], residuals: Float[Tensor, "pairs outputs"]
) -> Float[Tensor, "players outputs"]:
    """The variance of Σ solution·residual over pairs drawn at random from one group."""
    count = len(residuals)
    squares = solution**2 @ residuals**2
    if count < 2:
        return squares
    return (squares - (solution @ residuals) ** 2 / count).clamp_min(0) * count / (count - 1)
