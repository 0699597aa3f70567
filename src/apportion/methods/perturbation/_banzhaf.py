"""Banzhaf: each player's mean contribution to the target over all coalitions of the others."""

from __future__ import annotations

from dataclasses import dataclass

from apportion.core import AnyFeatures
from apportion.games import AnyMasker, CooperativeGame, Estimate, as_masker, exact_banzhaf, players_of, sampled_banzhaf
from apportion.games.values import MOST_PLAYERS_EXACT
from apportion.methods._method import Method, Shares
from apportion.methods._registry import perturbation_method
from apportion.methods.perturbation._games import game_of, shares_of
from apportion.task import AttributionTask


@perturbation_method(
    "banzhaf",
    conserves="no",
    cost="budget forward, 2ⁿ where that is less",
    source="Banzhaf 1965; Wang & Jia 2023, arXiv 2205.15466",
)
@dataclass(frozen=True, kw_only=True)
class Banzhaf(Method):
    r"""Banzhaf values of the game whose payoff is the target with only the present players.

    The mean of $f(S \cup i) - f(S)$ over all coalitions S of the others, with equal weights, in the target's unit.
    Exact if the budget covers all coalitions; else by maximum sample reuse, with standard errors. Features that are
    always present get exactly 0.

    Args:
        budget: How many coalitions are evaluated at most.
        features: The players; as for leave-one-out.
        masker: How players are removed; as for leave-one-out.
        seed: Of the random coalitions.

    Source:
        Banzhaf 1965; Wang & Jia 2023, arXiv 2205.15466.
    """

    budget: int = 512
    features: AnyFeatures = "tokens"
    masker: AnyMasker = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        as_masker(self.masker)

    def attribute(self, task: AttributionTask) -> Shares:
        """Play each prompt's game."""
        examples = range(len(task.prompts))
        players = [players_of(task, b, self.features) for b in examples]
        found = [self._values(game_of(task, b, players[b], self.masker, doing="banzhaf")) for b in examples]
        return shares_of(task, players, found, chosen=self.features, masker=self.masker)

    def _values(self, game: CooperativeGame) -> Estimate:
        if game.players <= MOST_PLAYERS_EXACT and 2**game.players <= self.budget:
            return exact_banzhaf(game)
        return sampled_banzhaf(game, budget=self.budget, seed=self.seed)
