"""Banzhaf values from random coalitions, each of which counts for every player."""

from __future__ import annotations

import torch
from torch import Tensor

from apportion.core import ApportionError
from apportion.games._game import CooperativeGame
from apportion.games.values._estimate import Estimate


def sampled_banzhaf(game: CooperativeGame, *, budget: int, seed: int = 0) -> Estimate:
    r"""Banzhaf values by maximum sample reuse.

    Coalitions are drawn uniformly, each player present with probability ½. A player's value is the mean payoff of the
    coalitions with it less the mean payoff of those without it, so that every coalition serves all players. The
    standard errors are those of a difference of two means.

    Args:
        game: Its players and payoff.
        budget: How many coalitions may be evaluated; the full and the empty one take two of them apart.
        seed: Of the random coalitions.

    Raises:
        ApportionError: The budget is so small that a player is hardly ever present, or hardly ever absent.

    Source:
        Wang and Jia 2023, arXiv 2205.15466, eq. 5.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(max(0, budget - 2), game.players, generator=generator, dtype=torch.float64) < 0.5
    present = drawn.sum(0)
    if int(torch.minimum(present, len(drawn) - present).min()) < 2:
        raise ApportionError(
            f"budget={budget} is too small: not every player is in two and out of two of the {len(drawn)} coalitions "
            "drawn; give 32 or more."
        )
    payoffs = game.values(drawn)
    with_it, error_with = _mean(drawn, payoffs)
    without, error_without = _mean(~drawn, payoffs)
    return Estimate(
        values=with_it - without,
        standard_errors=(error_with**2 + error_without**2).sqrt(),
        empty=game.empty,
        full=game.full,
        evaluations=game.evaluations,
    )


def _mean(chosen: Tensor, payoffs: Tensor) -> tuple[Tensor, Tensor]:
    """The mean payoff of the coalitions chosen for each player, with its standard error."""
    chosen = chosen.double()
    count = chosen.sum(0)[:, None]
    # About the overall mean, so that the squares do not cancel when all payoffs are large.
    centre = payoffs.mean(0)
    mean = chosen.T @ (payoffs - centre) / count
    squares = chosen.T @ (payoffs - centre) ** 2 / count
    variance = (squares - mean**2).clamp_min(0) * count / (count - 1)
    return mean + centre, (variance / count).sqrt()
