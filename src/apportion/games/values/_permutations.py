"""Shapley values from random orders of the players, each order with its reverse."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from apportion.core import ApportionError
from apportion.games._game import CooperativeGame
from apportion.games.values._coalitions import permutations
from apportion.games.values._estimate import Estimate

#: Fewer pairs may agree by chance, and would then seem certain.
FEWEST_PAIRS = 8


def permutation_shapley(game: CooperativeGame, *, budget: int, seed: int = 0) -> Estimate:
    """Shapley values as the mean contribution of each player over random orders in which the players join.

    Orders come in pairs, one the reverse of the other: whoever is early in one is late in the other, so that their
    mean varies less than that of independent orders. Every order's contributions sum to f(N) − f(∅), and so do their
    means. The standard errors are those of a mean of independent pairs; None with fewer than `FEWEST_PAIRS`.

    Args:
        game: Its players and payoff.
        budget: How many coalitions may be evaluated, full and empty included; a pair of orders takes 2(n − 1).
        seed: Of the random orders.

    Raises:
        ApportionError: The budget is less than the 2n of one pair of orders.

    Source:
        Castro et al. 2009, doi:10.1016/j.cor.2008.04.004; antithetic orders: Mitchell et al. 2022, arXiv 2104.12199.
    """
    n = game.players
    if budget < 2 * n:
        raise ApportionError(
            f"budget={budget} is too small for the orders of {n} players; give at least {2 * n}, "
            "or fewer players such as words or sentences."
        )
    pairs = 1 if n == 1 else (budget - 2) // (2 * (n - 1))
    orders = permutations(n, pairs, torch.Generator().manual_seed(seed))
    orders = torch.stack([orders, orders.flip(1)], 1).flatten(0, 1)
    payoffs = game.values(_joining(orders).flatten(0, 1)).unflatten(0, (2 * pairs, n + 1))
    contributions = torch.zeros_like(payoffs[:, 1:])
    contributions.scatter_(1, orders[:, :, None].expand_as(contributions), payoffs.diff(dim=1))
    by_pair = contributions.unflatten(0, (pairs, 2)).mean(1)
    return Estimate(
        values=by_pair.mean(0),
        standard_errors=by_pair.std(0) / pairs**0.5 if pairs >= FEWEST_PAIRS else None,
        empty=game.empty,
        full=game.full,
        evaluations=game.evaluations,
    )


def _joining(orders: Int[Tensor, "orders players"]) -> Bool[Tensor, "orders steps players"]:
    """The coalitions that arise as the players join in order, from none to all."""
    return orders.argsort(1)[:, None, :] < torch.arange(orders.shape[1] + 1)[:, None]
