"""A budget that grows until the values are certain enough."""

from __future__ import annotations

from collections.abc import Callable

from apportion.metagame.estimators._estimate import MetaEstimate
from apportion.metagame.estimators._game import MetaGame

#: Coalitions a player in the first round, and in the last.
FIRST, LAST = 8, 64


def to_tolerance(game: MetaGame, within: Callable[[int], MetaEstimate], tolerance: float) -> MetaEstimate:
    """The values by an estimator whose budget is doubled until they are certain enough.

    Every round draws what the one before it drew, and more, so that nothing is evaluated twice. The last round has
    `LAST` coalitions a player; where that is not enough either, the standard errors say how far the values may be off.

    Args:
        game: Its players and targets.
        within: From a budget to the estimate.
        tolerance: The root mean square of the standard errors as a part of that of the values, a player's own left out.
    """
    budget = FIRST * game.players
    while True:
        found = within(budget)
        if budget >= LAST * game.players or _certain(game, found, tolerance):
            return found
        budget *= 2


def _certain(game: MetaGame, found: MetaEstimate, tolerance: float) -> bool:
    """Whether the standard errors are small beside the values; with none given, only where nothing was drawn."""
    if found.standard_errors is None:
        return found.evaluations >= 2**game.players - 1
    values = found.values.clone()
    for target, player in enumerate(game.player_of):
        if player is not None:
            values[player, target] = 0  # what it has alone is known, and no value of the game
    return bool(found.standard_errors.norm() <= tolerance * values.norm())
