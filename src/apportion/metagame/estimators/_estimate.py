"""An estimate of a metagame: how far each player moves each target's attribution, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from apportion.metagame.estimators._game import MetaGame


@dataclass(frozen=True, kw_only=True)
class MetaEstimate:
    r"""What every target's game gives to its players.

    Args:
        values: $\varphi_{j \to i}$, players by targets; where the player is the target, what it has alone.
        standard_errors: How far the values may be from those that all coalitions would give, one standard deviation;
            None where nothing was drawn at random, or too little to tell. 0 where the player is the target.
        main_effect: Each target's attribution with no other player present.
        first_order: Each target's attribution with all players present.
        evaluations: How many distinct coalitions were evaluated.
        estimator: Which estimator it is by, where one was asked for by name.
    """

    values: Float[Tensor, "players targets"]
    standard_errors: Float[Tensor, "players targets"] | None
    main_effect: Float[Tensor, " targets"]
    first_order: Float[Tensor, " targets"]
    evaluations: int
    estimator: str = ""


def estimate_of(
    game: MetaGame, values: Float[Tensor, "players targets"], standard_errors: Float[Tensor, "players targets"] | None
) -> MetaEstimate:
    """What was found of a game so far, with what every target that plays has alone in its own place."""
    for target, player in enumerate(game.player_of):
        if player is not None:
            values[player, target] = game.main_effect[target]
    return MetaEstimate(
        values=values,
        standard_errors=standard_errors,
        main_effect=game.main_effect,
        first_order=game.first_order,
        evaluations=game.evaluations,
    )
