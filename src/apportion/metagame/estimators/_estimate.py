"""An estimate of a metagame: each player's effect on each target's attribution, and its standard error."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from apportion.metagame.estimators._game import MetaGame


@dataclass(frozen=True, kw_only=True)
class MetaEstimate:
    r"""The values of every target's game.

    Args:
        values: $\varphi_{j \to i}$, players by targets; if the player is the target, its main effect.
        standard_errors: One standard deviation of the error against all coalitions; 0 if the player is the target. None
            if nothing was sampled, or too little to estimate it.
        main_effect: Each target's attribution with no other player present.
        first_order: Each target's attribution with all players present.
        evaluations: How many distinct coalitions were evaluated.
        estimator: The estimator's name, if chosen by name.
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
    """The estimate from a game's values, with the main effect of every target that is a player on its diagonal."""
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
