"""Metagame by regression: a linear fit for every target, all on the same coalitions."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from apportion.games.values import fitted_to
from apportion.metagame.estimators._design import Design
from apportion.metagame.estimators._draws import drawn_in_pairs
from apportion.metagame.estimators._estimate import MetaEstimate, estimate_of
from apportion.metagame.estimators._exact import exact
from apportion.metagame.estimators._game import MetaGame
from apportion.metagame.estimators._shared import Divided, from_shared


def regression(game: MetaGame, *, budget: int, seed: int = 0) -> MetaEstimate:
    r"""The values of a metagame by weighted least squares on coalitions that all targets share.

    For a target i with m = n − 1 others, the values are the $\varphi_{j \to i}$ with
    $\sum_j \varphi_{j \to i} = \varphi_i(N) - \varphi_i(i)$ that minimise
    $\sum_S \mu_S (\varphi_i(S \cup i) - \varphi_i(i) - g(|S|) - \sum_{j \in S} \varphi_{j \to i})^2$ over the
    coalitions drawn, with $\mu_S$ from the Shapley kernel and a curve g of two parameters (see `design`). The full
    coalition and all targets alone are always evaluated and fitted exactly; others are drawn by size without
    replacement (see `drawn`). Targets that are the same player share one factorisation.

    A target that is not a player has a game of all n players. If no target is a player, coalitions come in pairs of
    complements as in `games.leverage_shap`.

    The standard errors are those of `games.leverage_shap`: leave-one-out residuals, by size. None if a value depends on
    a single coalition.

    Args:
        game: Its players, targets and payoff.
        budget: How many coalitions may be evaluated, full and singletons included.
        seed: Of the random coalitions; with the same seed a larger budget extends the same sample.

    Raises:
        ApportionError: The sample cannot distinguish all players; nothing has been evaluated.

    Source:
        Musco and Witter 2024, arXiv 2410.01917, for the scalar game; sharing coalitions among targets, the sizes drawn
        for it, and the curve are our own.
    """
    if game.players <= 2:
        return exact(game)
    if any(player is not None for player in game.player_of):
        return from_shared(game, budget=budget, seed=seed, divide=_fitted)
    found = fitted_to(game.game, budget, seed, drawn_in_pairs)
    return estimate_of(game, found.values, found.standard_errors)


def _fitted(
    design: Design,
    payoffs: Float[Tensor, "rows outputs"],
    empty: Float[Tensor, " outputs"],
    full: Float[Tensor, " outputs"],
) -> Divided:
    """The fitted values, which sum to `full` less `empty`, and their standard errors."""
    m, total = len(design.others), full - empty
    observed = payoffs - empty - design.sizes[:, None] * total / m
    coefficients = design.solution @ observed
    deviations = coefficients[:m]
    residuals = (observed - design.regressors @ coefficients) / (1 - design.leverages).clamp_min(1e-6)
    # The deviations sum to 0 up to rounding; the subtraction makes the sum of the values exact.
    values = total / m + deviations - deviations.mean(0)
    hangs = bool((design.leverages[design.shares < 1] > 1 - 1e-6).any())
    return values, None if hangs else design.standard_errors(design.solution[:m], residuals)
