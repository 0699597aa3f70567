"""Shared coalitions: sampled once, and their payoffs divided for every target."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError, progress
from apportion.metagame.estimators._design import Design, design
from apportion.metagame.estimators._draws import Draws, drawn
from apportion.metagame.estimators._estimate import MetaEstimate, estimate_of
from apportion.metagame.estimators._game import MetaGame

Divided = tuple[Float[Tensor, "others outputs"], Float[Tensor, "others outputs"] | None]
Divide = Callable[[Design, Tensor, Tensor, Tensor], Divided]


def from_shared(game: MetaGame, *, budget: int, seed: int, divide: Divide) -> MetaEstimate:
    """The values of a metagame from coalitions shared by all targets.

    Args:
        game: Its players, targets and payoff.
        budget: How many coalitions may be evaluated.
        seed: Of the random coalitions.
        divide: From a player's design, the payoffs of its rows, of the player alone and of all, to the
            values of the others for all targets that are this player, and their standard errors.

    Raises:
        ApportionError: The sample cannot distinguish all players; nothing has been evaluated.
    """
    draws, designs = _designs(game, budget, seed)
    payoffs = game.values(draws.coalitions)
    values = torch.zeros(game.players, game.targets, dtype=torch.float64)
    errors: Tensor | None = torch.zeros_like(values)
    for player, mine in progress(designs.items(), "dividing", show=game.game.progress, total=len(designs)):
        targets = [target for target, one in enumerate(game.player_of) if one == player]
        places, given = (mine.others[:, None], torch.tensor(targets)), payoffs[mine.rows][:, targets]
        values[places], error = divide(mine, given, game.main_effect[targets], game.first_order[targets])
        errors = None if errors is None or error is None else errors.index_put(places, error)
    return estimate_of(game, values, errors)


def _designs(game: MetaGame, budget: int, seed: int) -> tuple[Draws, dict[int | None, Design]]:
    """The coalitions within a budget, and their design for each player that is a target."""
    n, players = game.players, list(dict.fromkeys(game.player_of))
    always = 1 + n + (None in players)

    def made(most: int) -> tuple[Draws, dict[int | None, Design]] | None:
        draws = drawn(n, max(0, most - always), seed)
        found = {player: design(draws, player) for player in players}
        complete = {player: one for player, one in found.items() if one is not None}
        return (draws, complete) if len(complete) == len(found) else None

    enough = made(budget)
    if enough is not None and budget >= always:
        return enough
    least = next(most for most in range(max(budget + 1, always), 2**n + 1) if made(most) is not None)
    raise ApportionError(
        f"budget={budget} is too small to tell {n} players apart; give at least {least}, better {8 * n} or more, or "
        "fewer players such as words."
    )
