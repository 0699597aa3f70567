"""Shapley: each player's mean contribution to the target over all orders in which the players may join."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from apportion.core import AnyFeatures, ApportionError, Ledger
from apportion.games import (
    AnyMasker,
    CooperativeGame,
    Estimate,
    as_masker,
    exact_shapley,
    kernel_shap,
    leverage_shap,
    permutation_shapley,
    players_of,
)
from apportion.games.values import MOST_PLAYERS_EXACT
from apportion.methods._method import Method, Shares
from apportion.methods._registry import perturbation_method
from apportion.methods.perturbation._games import game_of, shares_of
from apportion.task import AttributionTask

Estimator = Literal["auto", "exact", "permutation", "kernel", "leverage"]
SAMPLED = {"permutation": permutation_shapley, "kernel": kernel_shap, "leverage": leverage_shap}

#: With fewer coalitions per player, random orders are more accurate than a regression.
ENOUGH_FOR_REGRESSION = 6


@perturbation_method(
    "shapley",
    conserves="with a remainder",
    cost="budget forward, 2ⁿ where that is less",
    source="Shapley 1953; Lundberg & Lee 2017, arXiv 1705.07874; Musco & Witter 2024, arXiv 2410.01917",
)
@dataclass(frozen=True, kw_only=True)
class Shapley(Method):
    r"""Shapley values of the game whose payoff is the target with only the present players.

    The scores sum to $f(N) - f(\emptyset)$ for every estimator; the target with no player present, $f(\emptyset)$, is
    the remainder in the ledger. Features that are always present get exactly 0.

    Args:
        estimator: `"exact"` (all coalitions, whatever the budget, of at most 16 players), `"permutation"` (random
            orders, each with its reverse), `"kernel"` (KernelSHAP), `"leverage"` (LeverageSHAP), or `"auto"`: exact
            if the budget covers all coalitions, leverage with at least 6 coalitions per player, and permutations
            below, where they are more accurate.
        budget: How many coalitions are evaluated at most.
        features: The players; as for leave-one-out.
        masker: How players are removed; as for leave-one-out.
        seed: Of the random coalitions.

    Source:
        Shapley 1953; Castro et al. 2009; Lundberg & Lee 2017, arXiv 1705.07874; Musco & Witter 2024, arXiv 2410.01917.
    """

    estimator: Estimator = "auto"
    budget: int = 512
    features: AnyFeatures = "tokens"
    masker: AnyMasker = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.estimator not in ("auto", "exact", *SAMPLED):
            raise ApportionError(
                f"estimator={self.estimator!r} is not known; use 'auto', 'exact', {', '.join(map(repr, SAMPLED))}."
            )
        as_masker(self.masker)

    def attribute(self, task: AttributionTask) -> Shares:
        """Play each prompt's game."""
        examples = range(len(task.prompts))
        players = [players_of(task, b, self.features) for b in examples]
        found = [self._values(game_of(task, b, players[b], self.masker, doing="shapley")) for b in examples]
        shares = shares_of(task, players, found, chosen=self.features, masker=self.masker)
        if len(found) > 1:
            return shares
        total = torch.tensor(task.target_values.values[0], dtype=torch.float64)
        lines = {"tokens": shares.scores[0].sum(-1), "target with nothing present": found[0].empty}
        return replace(shares, ledger=Ledger(total=total, lines=lines))

    def _values(self, game: CooperativeGame) -> Estimate:
        estimator = self._chosen(game.players) if self.estimator == "auto" else self.estimator
        if estimator == "exact":
            return exact_shapley(game)
        return SAMPLED[estimator](game, budget=self.budget, seed=self.seed)

    def _chosen(self, players: int) -> str:
        if 2**players <= self.budget:
            return "exact" if players <= MOST_PLAYERS_EXACT else "leverage"
        return "leverage" if self.budget >= ENOUGH_FOR_REGRESSION * players else "permutation"
