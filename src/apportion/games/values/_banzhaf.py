"""Banzhaf values from random coalitions, each of which is used for every player."""

from __future__ import annotations

import torch
from torch import Tensor

from apportion.core import ApportionError
from apportion.games._game import CooperativeGame
from apportion.games.values._estimate import Estimate


def sampled_banzhaf(game: CooperativeGame, *, budget: int, seed: int = 0) -> Estimate:
    r"""Banzhaf values by maximum sample reuse.

    Coalitions are drawn uniformly, each player present with probability ½. A player's value is the mean payoff of the
    coalitions with it minus the mean payoff of those without it, so every coalition is used for all players. The
    standard errors are those of a difference of two means.

    Args:
        game: The game.
        budget: How many coalitions may be evaluated, two of which are the full and the empty one.
        seed: Seed of the random coalitions.

    Raises:
        ApportionError: The budget is so small that a player is present or absent in fewer than two coalitions.

    Source:
        Wang and Jia 2023, arXiv 2205.15466, eq. 5.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(max(0, budget - 2), game.players, generator=generator, dtype=torch.float64) < 0.5
    present = drawn.sum(0)
    if int(torch.minimum(present, len(drawn) - present).min()) < 2:
        raise ApportionError(
            f"budget={budget} is too small: some players are present or absent in fewer than two of the {len(drawn)} "
            "coalitions drawn; give 32 or more."
        )
    payoffs = game.values(drawn)
    with_it, error_with = _mean(drawn, payoffs)
    without, error_without = _mean(~drawn, payoffs)
    return Estimate.of(game, with_it - without, (error_with**2 + error_without**2).sqrt())


def _mean(chosen: Tensor, payoffs: Tensor) -> tuple[Tensor, Tensor]:
    """The mean payoff of the coalitions chosen for each player, with its standard error."""
    chosen = chosen.double()
    count = chosen.sum(0)[:, None]
    # Centred at the overall mean, so that the squares do not cancel when all payoffs are large.
    centre = payoffs.mean(0)
    mean = chosen.T @ (payoffs - centre) / count
    squares = chosen.T @ (payoffs - centre) ** 2 / count
    variance = (squares - mean**2).clamp_min(0) * count / (count - 1)
    return mean + centre, (variance / count).sqrt()
