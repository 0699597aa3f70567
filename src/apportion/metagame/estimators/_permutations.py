"""Metagame by permutations: what each player adds to the targets before it, averaged over random orders."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from apportion.core import ApportionError
from apportion.games.values import FEWEST_PAIRS
from apportion.games.values import permutations as orders_of
from apportion.metagame.estimators._estimate import MetaEstimate, estimate_of
from apportion.metagame.estimators._exact import exact
from apportion.metagame.estimators._game import MetaGame


def permutations(game: MetaGame, *, budget: int, seed: int = 0) -> MetaEstimate:
    r"""The values of a metagame from random orders in which the players join, each order with its reverse.

    When j joins as number p + 1, it adds $\varphi_i(T \cup j) - \varphi_i(T)$ to each target i among the p before it.
    The probability that i comes before j at that place is p / (n (n − 1)) for each p from 1 to n − 1, and then T∖i is a
    random coalition of p − 1 of the others. Every size has the same weight 1 / (n − 1) in $\varphi_{j \to i}$, so each
    addition is weighted by n / p: the mean over orders is unbiased. The difference to $\varphi_i(N) - \varphi_i(i)$ is
    shared equally, and deviations from an equal share are averaged; neither adds a bias. For a target that is not a
    player, each addition has weight 1.

    The standard errors are those of a mean of independent pairs; None with fewer than `FEWEST_PAIRS`.

    Args:
        game: Its players, targets and payoff.
        budget: How many coalitions may be evaluated, full and singletons included; a pair of orders takes 2(n − 2).
        seed: Of the random orders; with the same seed a larger budget extends the same sample.

    Raises:
        ApportionError: The budget is less than one pair of orders takes.

    Source:
        Permutation sampling: Castro et al. 2009, doi:10.1016/j.cor.2008.04.004; antithetic orders: Mitchell et al.
        2022, arXiv 2104.12199; the weights that let one order serve all targets are our own.
    """
    n = game.players
    if n <= 2:
        return exact(game)
    always = 1 + n + (None in game.player_of)
    pairs = (budget - always) // (2 * (n - 2))
    if pairs < 1:
        raise ApportionError(
            f"budget={budget} is too small for the orders of {n} players; give at least {always + 2 * (n - 2)}, "
            "or fewer players such as words."
        )
    values, errors = from_orders(game, orders_of(n, pairs, torch.Generator().manual_seed(seed)))
    return estimate_of(game, values, errors if pairs >= FEWEST_PAIRS else None)


def from_orders(
    game: MetaGame, orders: Int[Tensor, "pairs players"]
) -> tuple[Float[Tensor, "players targets"], Float[Tensor, "players targets"]]:
    """The mean over orders and their reverses, and its standard error (NaN for one order)."""
    n = game.players
    plays = torch.tensor([player is not None for player in game.player_of])
    own = torch.stack([torch.arange(n) == (-1 if player is None else player) for player in game.player_of], 1)
    equal = torch.where(own, 0.0, (game.first_order - game.main_effect) / (n - plays.double()))
    weights = torch.where(plays, n / torch.arange(n, dtype=torch.float64)[:, None].clamp_min(1), 1.0)
    # From one player to all: two rows of coalitions for each pair; `values` evaluates only new ones.
    both = torch.stack([orders, orders.flip(1)], 1)
    coalitions = both.argsort(2)[:, :, None, :] < torch.arange(1, n + 1)[:, None]
    payoffs = game.values(coalitions.flatten(0, 2)).unflatten(0, (len(orders), 2, n))
    empty = torch.zeros(1, game.targets, dtype=torch.float64)
    if not bool(plays.all()):
        empty = game.values(torch.zeros(1, n, dtype=torch.bool))
    mean, squares = torch.zeros_like(equal), torch.zeros_like(equal)
    for count, (pair, joined) in enumerate(zip(both, payoffs, strict=True), 1):
        found = torch.zeros_like(equal)
        for order, steps in zip(pair, joined, strict=True):
            added = torch.cat([empty, steps]).diff(dim=0) - equal[order]
            before = own[order].cumsum(0) - own[order].long() > 0
            found[order] += torch.where(before | ~plays, weights * added, 0) / 2
        found -= found.sum(0) / (n - plays.double())
        found = torch.where(own, 0, found)
        step = found - mean
        mean += step / count
        squares += step * (found - mean)
    values = torch.where(own, game.main_effect, equal + mean)
    errors = (squares / (len(orders) - 1) / len(orders)).sqrt() if len(orders) > 1 else torch.full_like(mean, torch.nan)
    return values, errors
