"""Exact values of a metagame: every coalition is evaluated."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.games.values import all_coalitions
from apportion.metagame.estimators._estimate import MetaEstimate, estimate_of
from apportion.metagame.estimators._game import MetaGame

#: The most players for which all coalitions are evaluated, 65 536; the third order has a value for each triple.
MOST_PLAYERS = 16
MOST_PLAYERS_OF_THIRD_ORDER = 10

_OfTargets = Float[Tensor, "coalitions targets"]


def exact(game: MetaGame) -> MetaEstimate:
    r"""The values by the definition, from all coalitions.

    $\varphi_{j \to i} = \sum_{S \subseteq N \setminus \{i, j\}} \frac{1}{(n-1) \binom{n-2}{|S|}}
    (\varphi_i(S \cup \{i, j\}) - \varphi_i(S \cup i))$, computed from the game's dividends: each $m_i(S)$ is divided
    equally among the players of S.

    Raises:
        ApportionError: There are more than `MOST_PLAYERS` players.

    Source:
        Baniecki, Biecek and Fumagalli 2026, arXiv 2605.06295; dividends: Harsanyi 1963.
    """
    _check(game, MOST_PLAYERS)
    members, joining, dividends = _dividends(game)
    return estimate_of(game, members.T @ (dividends / joining.clamp_min(1)), None)


def third_order(game: MetaGame) -> Float[Tensor, "players players targets"]:
    r"""$\varphi_{k \to j \to i}$: the metagame whose payoff is $\varphi_{j \to i}$, recomputed among those present.

    i and j are always present and the others join them. A dividend $m_i(S)$ with both j and k in S gives
    $m_i(S) / (|S| (|S| - 1))$, so the third order is the same with j and k exchanged. Summed over k, and with what
    $\varphi_{j \to i}$ is among i and j alone, it is $\varphi_{j \to i}$. Where two of the three are one, it is 0.

    Raises:
        ApportionError: There are more than `MOST_PLAYERS_OF_THIRD_ORDER` players.

    Source:
        The definition of Baniecki, Biecek and Fumagalli 2026, arXiv 2605.06295, applied to itself.
    """
    _check(game, MOST_PLAYERS_OF_THIRD_ORDER)
    members, joining, dividends = _dividends(game)
    weights = dividends / (joining * (joining - 1)).clamp_min(1)
    found = torch.einsum("ck,cj,ci->kji", members, members, weights)
    found[torch.eye(game.players, dtype=torch.bool)] = 0
    for target, player in enumerate(game.player_of):
        if player is not None:
            found[player, :, target] = found[:, player, target] = 0
    return found


def _dividends(game: MetaGame) -> tuple[Float[Tensor, "coalitions players"], _OfTargets, _OfTargets]:
    """Every coalition, how many of its players join each target, and the target's dividends.

    A target's attribution is 0 where it is absent, so its dividends are 0 in all coalitions without it.
    """
    coalitions = all_coalitions(game.players)
    if None in game.player_of:
        dividends = game.values(coalitions)
    else:  # do not evaluate the empty coalition, which some models cannot read
        dividends = torch.cat([torch.zeros(1, game.targets, dtype=torch.float64), game.values(coalitions[1:])])
    for player in range(game.players):
        without, joined = dividends.view(-1, 2, 2**player, game.targets).unbind(1)
        joined -= without
    members = coalitions.double()
    plays = torch.tensor([player is not None for player in game.player_of])
    return members, members.sum(1, keepdim=True) - plays.double(), dividends


def _check(game: MetaGame, most: int) -> None:
    if game.players > most:
        raise ApportionError(
            f"this takes all 2^{game.players} coalitions of {game.players} players, and at most {most} players are "
            "possible; sample coalitions with a budget, or use fewer players such as words."
        )
