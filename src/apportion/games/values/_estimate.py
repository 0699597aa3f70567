"""An estimate: what each player of a game gets, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import NonFiniteRelevance


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The players' values in one game, for every output of its payoff.

    Args:
        values: What each player gets, in the payoff's unit.
        standard_errors: How far the values may be from those that all coalitions would give, one standard deviation;
            None where nothing was drawn at random, or too little to tell.
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

    def __post_init__(self) -> None:
        wrong = int((~torch.isfinite(self.values)).any(1).sum())
        if wrong:
            raise NonFiniteRelevance(
                f"the values of {wrong} of {len(self.values)} players are NaN or infinite, because the payoff of a "
                "coalition is; choose a masker or a target that is finite whatever is absent."
            )
