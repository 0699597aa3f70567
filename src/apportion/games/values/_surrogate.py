"""A sparse linear surrogate of a game: what ContextCite fits to random ablations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.core import ApportionError, rank_correlation
from apportion.games._game import CooperativeGame
from apportion.games.values._estimate import Estimate

#: In how many parts the ablations are split to test the surrogate on those that it was not fitted to.
FOLDS = 4


@dataclass(frozen=True, kw_only=True)
class Surrogate(Estimate):
    """A linear function of which players are present, close to a game's payoff.

    Args:
        intercept: The payoff that it predicts with no player.
        agreement: How well it predicts ablations that it was not fitted to: the rank correlation of predictions and
            payoffs (the linear datamodelling score), by output; NaN where it predicts the same for all.
    """

    intercept: Float[Tensor, " outputs"]
    agreement: Float[Tensor, " outputs"]


def sparse_surrogate(
    game: CooperativeGame, *, ablations: int, alpha: float = 0.01, scale: float | Sequence[float] = 1.0, seed: int = 0
) -> Surrogate:
    r"""The sparse linear function that best predicts a game's payoff when each player is absent with probability ½.

    The weights minimise $\frac{1}{2m} \sum_T (f(T) / c - b - \sum_i w_i z_i(T))^2 + \alpha \sum_i |w_i|$ over m random
    coalitions, where $z_i$ is the presence of player i scaled to mean 0 and variance 1, and c is `scale`; the values
    are the weights in the unit of f for players that are 0 or 1. The agreement is found by cross-validation in `FOLDS`
    parts, and so costs no more evaluations.

    Args:
        game: Its players and payoff.
        ablations: How many random coalitions are evaluated, besides the full and the empty one.
        alpha: How strongly weights are drawn to 0, for payoffs of the size of `scale`.
        scale: What the payoff is divided by before the fit, such as the number of tokens that it sums; one number, or
            one for each output.
        seed: Of the random coalitions.

    Raises:
        ApportionError: scikit-learn is not installed, or a player was never absent or never present in a part of the
            ablations.

    Source:
        Cohen-Wang et al. 2024, arXiv 2409.00729, section 3; LASSO's details as in the authors' code.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(ablations, game.players, generator=generator, dtype=torch.float64) < 0.5
    held_out = torch.arange(ablations) % FOLDS
    parts = [drawn[held_out != fold] for fold in range(FOLDS)]
    if any(not len(part) or bool((part.all(0) | ~part.any(0)).any()) for part in parts):
        raise ApportionError(
            f"ablations={ablations} is too small: some of the {game.players} players are always present or always "
            "absent in a part of them; give 32 or more."
        )
    units = torch.as_tensor(scale, dtype=torch.float64)
    payoffs = game.values(drawn) / units
    weights, intercept = _lasso(drawn, payoffs, alpha)
    predicted = torch.empty_like(payoffs)
    for fold in range(FOLDS):
        inside, outside = held_out != fold, held_out == fold
        slope, constant = _lasso(drawn[inside], payoffs[inside], alpha)
        predicted[outside] = drawn[outside].double() @ slope + constant
    return Surrogate(
        values=weights * units,
        standard_errors=None,
        empty=game.empty,
        full=game.full,
        evaluations=game.evaluations,
        intercept=intercept * units,
        agreement=rank_correlation(predicted, payoffs),
    )


def _lasso(
    drawn: Bool[Tensor, "ablations players"], payoffs: Float[Tensor, "ablations outputs"], alpha: float
) -> tuple[Float[Tensor, "players outputs"], Float[Tensor, " outputs"]]:
    """Weights and intercept for players that are 0 or 1."""
    lasso = _sklearn_lasso()
    present = drawn.double()
    mean, spread = present.mean(0), present.std(0, correction=0)
    scaled = ((present - mean) / spread).numpy()
    weights = torch.zeros(drawn.shape[1], payoffs.shape[1], dtype=torch.float64)
    for output, observed in enumerate(payoffs.T):
        if not bool(torch.isfinite(observed).all()):
            weights[:, output] = torch.nan  # which an estimate refuses
        # LASSO stops by the payoff's variance, and warns where there is none.
        elif bool((observed != observed[0]).any()):
            fit = lasso(alpha=alpha, max_iter=10_000, tol=1e-7).fit(scaled, observed.numpy())
            weights[:, output] = torch.from_numpy(fit.coef_) / spread
    return weights, payoffs.mean(0) - mean @ weights


def _sklearn_lasso() -> Any:
    try:
        from sklearn.linear_model import Lasso
    except ImportError as error:
        raise ApportionError(
            "a sparse linear surrogate (ContextCite) needs scikit-learn: pip install 'apportion[games]'."
        ) from error
    return Lasso
