"""An estimate: the values of a game's players, with standard errors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import NonFiniteRelevance
from apportion.games._game import CooperativeGame


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The players' values in one game, for every output of its payoff.

    Args:
        values: The value of each player, in the payoff's unit.
        standard_errors: The standard errors of the values; None if nothing was drawn at random, or too few samples.
        empty: The payoff with no player.
        full: The payoff with all players.
        evaluations: How many distinct coalitions the game has evaluated.

    Raises:
        NonFiniteRelevance: A value is NaN or infinite, because the payoff of a coalition is.
    """

    values: Float[Tensor, "players outputs"]
    standard_errors: Float[Tensor, "players outputs"] | None
    empty: Float[Tensor, " outputs"]
    full: Float[Tensor, " outputs"]
    evaluations: int

    @staticmethod
    def of(game: CooperativeGame, values: Tensor, standard_errors: Tensor | None) -> Estimate:
        """Values that were found for a game."""
        empty, full = game.empty, game.full
        evaluations = game.evaluations
        return Estimate(values=values, standard_errors=standard_errors, empty=empty, full=full, evaluations=evaluations)

    def __post_init__(self) -> None:
        wrong = int((~torch.isfinite(self.values)).any(1).sum())
        if wrong:
            raise NonFiniteRelevance(
                f"the values of {wrong} of {len(self.values)} players are NaN or infinite, because the payoff of a "
                "coalition is; choose a masker or a target that is finite for every coalition."
            )
