"""Estimators of a metagame by name."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, get_args

from apportion.core import ApportionError
from apportion.metagame.estimators._budget import to_tolerance
from apportion.metagame.estimators._estimate import MetaEstimate
from apportion.metagame.estimators._exact import exact
from apportion.metagame.estimators._game import MetaGame
from apportion.metagame.estimators._permutations import permutations
from apportion.metagame.estimators._regression import regression
from apportion.metagame.estimators._tree_proxy import tree_proxy

Estimator = Literal["auto", "exact", "regression", "tree-proxy", "permutations"]
Budget = int | Literal["auto"]

#: Up to so many players "auto" evaluates all coalitions (at most 255), unless a budget is given.
FEW_PLAYERS = 8
#: With more players "auto" never evaluates all coalitions, whatever the budget.
MOST_PLAYERS_IN_FULL = 14
#: With fewer coalitions per player a linear fit is closer than trees (docs/studies/metagame-estimators.md).
TREES_FROM = 24

_SAMPLING: Mapping[str, Callable[..., MetaEstimate]] = {
    "regression": regression,
    "tree-proxy": tree_proxy,
    "permutations": permutations,
}


def estimated(
    game: MetaGame, *, estimator: Estimator = "auto", budget: Budget = "auto", tolerance: float = 0.1, seed: int = 0
) -> MetaEstimate:
    """The values of a metagame by an estimator's name.

    Args:
        game: Its players, targets and payoff.
        estimator: `"exact"` evaluates all coalitions of up to 16 players, whatever the budget; `"regression"`,
            `"tree-proxy"` and `"permutations"` sample. `"auto"` evaluates all for up to `MOST_PLAYERS_IN_FULL`
            players if the budget allows it; else it takes `"tree-proxy"` with `TREES_FROM` coalitions per player or
            more (and scikit-learn installed), and `"regression"` with fewer.
        budget: How many coalitions are evaluated at most; `"auto"` for as many as `tolerance` needs, see
            `to_tolerance`.
        tolerance: With `budget="auto"`, the standard error at which sampling stops, relative to the values: root mean
            squares over all players and targets, without main effects.
        seed: Of the random coalitions; with the same seed a larger budget extends the same sample.

    Raises:
        ApportionError: There is no such estimator, or it does not support so many players with this budget.
    """
    if estimator not in get_args(Estimator):
        raise ApportionError(f"estimator={estimator!r} is not known; use {', '.join(map(repr, get_args(Estimator)))}.")
    if budget != "auto" and (isinstance(budget, bool) or not isinstance(budget, int) or budget < 1):
        raise ApportionError(f"budget={budget!r} is not possible; give a number of coalitions, or 'auto'.")
    if not tolerance > 0:
        raise ApportionError(f"tolerance={tolerance} is not possible; give a part of the values above 0, such as 0.1.")
    if estimator == "exact" or (estimator == "auto" and budget == "auto" and game.players <= FEW_PLAYERS):
        return replace(exact(game), estimator="exact")

    def within(most: int) -> MetaEstimate:
        chosen = _chosen(game, most) if estimator == "auto" else estimator
        found = exact(game) if chosen == "exact" else _SAMPLING[chosen](game, budget=most, seed=seed)
        return replace(found, estimator=chosen)

    return to_tolerance(game, within, tolerance) if budget == "auto" else within(budget)


def _chosen(game: MetaGame, budget: int) -> str:
    """The estimator that "auto" chooses for a budget."""
    everyone = 2**game.players - (None not in game.player_of)
    if everyone <= budget and game.players <= MOST_PLAYERS_IN_FULL:
        return "exact"
    trees = budget >= TREES_FROM * game.players and importlib.util.find_spec("sklearn") is not None
    return "tree-proxy" if trees else "regression"
