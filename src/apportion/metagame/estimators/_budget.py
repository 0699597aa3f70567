"""A budget that grows until the standard errors are small enough."""

from __future__ import annotations

from collections.abc import Callable

from apportion.metagame.estimators._estimate import MetaEstimate
from apportion.metagame.estimators._game import MetaGame

#: Coalitions per player in the first round and in the last.
FIRST, LAST = 8, 64


def to_tolerance(game: MetaGame, within: Callable[[int], MetaEstimate], tolerance: float) -> MetaEstimate:
    """Estimate with a budget that is doubled until the standard errors are within a tolerance.

    Every round extends the sample of the one before, so that nothing is evaluated twice. The last round has `LAST`
    coalitions per player, whatever the standard errors are then.

    Args:
        game: Its players and targets.
        within: From a budget to the estimate.
        tolerance: Of the root mean square of the standard errors relative to that of the values, without main effects.
    """
    budget = FIRST * game.players
    while True:
        found = within(budget)
        if budget >= LAST * game.players or _certain(game, found, tolerance):
            return found
        budget *= 2


def _certain(game: MetaGame, found: MetaEstimate, tolerance: float) -> bool:
    """Whether the standard errors are within the tolerance; without any, whether all coalitions were evaluated."""
    if found.standard_errors is None:
        return found.evaluations >= 2**game.players - 1
    values = found.values.clone()
    for target, player in enumerate(game.player_of):
        if player is not None:
            values[player, target] = 0  # the main effect is known exactly, and no value of the game
    return bool(found.standard_errors.norm() <= tolerance * values.norm())
