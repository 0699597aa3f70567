"""Exact values: every coalition is evaluated."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.games._game import CooperativeGame
from apportion.games.values._coalitions import all_coalitions
from apportion.games.values._estimate import Estimate

#: The most players whose coalitions are all evaluated, 65 536 of them.
MOST_PLAYERS_EXACT = 16


def exact_shapley(game: CooperativeGame) -> Estimate:
    r"""Shapley values by the definition.

    $\phi_i = \sum_{S \subseteq N \setminus i} \frac{|S|!\,(n-|S|-1)!}{n!} (f(S \cup i) - f(S))$. They sum to
    $f(N) - f(\emptyset)$.

    Raises:
        ApportionError: There are more than `MOST_PLAYERS_EXACT` players.

    Source:
        Shapley 1953, "A value for n-person games".
    """
    n = game.players
    return _exact(game, [1 / (n * math.comb(n - 1, size)) for size in range(n)])


def exact_banzhaf(game: CooperativeGame) -> Estimate:
    r"""Banzhaf values by the definition: the mean of $f(S \cup i) - f(S)$ over all $S \subseteq N \setminus i$.

    Raises:
        ApportionError: There are more than `MOST_PLAYERS_EXACT` players.

    Source:
        Banzhaf 1965, "Weighted voting doesn't work".
    """
    n = game.players
    return _exact(game, [0.5 ** (n - 1)] * n)


def _exact(game: CooperativeGame, weights: Sequence[float]) -> Estimate:
    """The weighted sum of each player's contributions, with a weight for every size of the coalition joined."""
    n = game.players
    if n > MOST_PLAYERS_EXACT:
        raise ApportionError(
            f"exact values of {n} players take 2^{n} coalitions, and at most {MOST_PLAYERS_EXACT} players are "
            "possible; use an estimator that draws coalitions, or fewer players such as words or sentences."
        )
    coalitions = all_coalitions(n)
    payoffs = game.values(coalitions)
    weight = torch.tensor([*weights, 0.0], dtype=torch.float64)[coalitions.sum(1)]
    return Estimate(
        values=torch.stack([_contribution(payoffs, weight, player) for player in range(n)]),
        standard_errors=None,
        empty=game.empty,
        full=game.full,
        evaluations=game.evaluations,
    )


def _contribution(
    payoffs: Float[Tensor, "coalitions outputs"], weight: Float[Tensor, " coalitions"], player: int
) -> Float[Tensor, " outputs"]:
    # In the order of `all_coalitions`, those without and those with a player alternate in blocks of 2^player.
    without, joined = payoffs.reshape(-1, 2, 2**player, payoffs.shape[1]).unbind(1)
    joining = weight.reshape(-1, 2, 2**player)[:, 0]
    return torch.einsum("ab,abo->o", joining, joined - without)
