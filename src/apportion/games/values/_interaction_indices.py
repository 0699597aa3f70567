"""Interaction indices: what pairs of players have together beyond what each has by itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.games._game import CooperativeGame
from apportion.games.values._coalitions import all_coalitions

#: The most players whose pairs are found from all coalitions, 16 384 of them.
MOST_PLAYERS_OF_PAIRS = 14


@dataclass(frozen=True, kw_only=True)
class PairEstimate:
    """What an interaction index of order 2 gives to players and to pairs of them.

    Args:
        singles: What each player has by itself, players by outputs.
        pairs: What each pair has together, once for both orders; 0 on the diagonal.
        shapley: The players' Shapley values. Here each is its single and half of all its pairs.
        empty: The payoff with no player.
        evaluations: How many distinct coalitions were evaluated.
    """

    singles: Float[Tensor, "players outputs"]
    pairs: Float[Tensor, "players players outputs"]
    shapley: Float[Tensor, "players outputs"]
    empty: Float[Tensor, " outputs"]
    evaluations: int


def shapley_taylor(game: CooperativeGame) -> PairEstimate:
    r"""The Shapley–Taylor index of order 2.

    With the dividends m of the game, a single is $f(\{i\}) - f(\emptyset) = m(\{i\})$, and a pair has
    $\sum_{S \ni i, j} m(S) / \binom{|S|}{2}$: whatever more than two players have together is divided equally among
    their pairs. Singles and pairs sum to $f(N) - f(\emptyset)$.

    Raises:
        ApportionError: There are more than `MOST_PLAYERS_OF_PAIRS` players.

    Source:
        Sundararajan, Dhamdhere and Agarwal 2020, "The Shapley Taylor Interaction Index", PMLR 119:9259.
    """
    members, sizes, dividends = _all_dividends(game)
    pairs = _paired(members, dividends / (sizes * (sizes - 1) / 2).clamp_min(1))
    singles = dividends[2 ** torch.arange(game.players)]
    return _estimate(game, singles, pairs, members.T @ (dividends / sizes.clamp_min(1)))


def shapley_interaction(game: CooperativeGame) -> PairEstimate:
    r"""The Shapley interaction index of pairs, with singles that make it efficient.

    A pair has $\sum_{S \subseteq N \setminus \{i, j\}} \frac{|S|!\,(n-|S|-2)!}{(n-1)!} \Delta_{ij} f(S)$ with the
    second difference $\Delta_{ij} f(S) = f(S \cup \{i, j\}) - f(S \cup i) - f(S \cup j) + f(S)$; in dividends,
    $\sum_{S \ni i, j} m(S) / (|S| - 1)$. These alone do not sum to anything in particular. A single is the player's
    Shapley value less half of its pairs, so that singles and pairs sum to $f(N) - f(\emptyset)$ (n-Shapley values of
    order 2, also called k-SII).

    Raises:
        ApportionError: There are more than `MOST_PLAYERS_OF_PAIRS` players.

    Source:
        Grabisch and Roubens 1999, doi:10.1007/s001820050125; the singles: Bordt and von Luxburg 2023, PMLR 206:709.
    """
    members, sizes, dividends = _all_dividends(game)
    pairs = _paired(members, dividends / (sizes - 1).clamp_min(1))
    shapley = members.T @ (dividends / sizes.clamp_min(1))
    return _estimate(game, shapley - pairs.sum(0) / 2, pairs, shapley)


def dividends_of(payoffs: Float[Tensor, "coalitions outputs"]) -> Float[Tensor, "coalitions outputs"]:
    r"""Harsanyi dividends, what a coalition has beyond all smaller ones: $m(S) = f(S) - \sum_{T \subset S} m(T)$.

    Args:
        payoffs: The payoff of every coalition, in the order of `all_coalitions`.
    """
    dividends = payoffs.clone()
    for player in range(len(payoffs).bit_length() - 1):
        without, joined = dividends.view(-1, 2, 2**player, payoffs.shape[1]).unbind(1)
        joined -= without
    return dividends


def _all_dividends(
    game: CooperativeGame,
) -> tuple[Float[Tensor, "coalitions players"], Float[Tensor, "coalitions 1"], Float[Tensor, "coalitions outputs"]]:
    """Who is in every coalition, how many are, and its dividend."""
    if game.players > MOST_PLAYERS_OF_PAIRS:
        raise ApportionError(
            f"this index takes all 2^{game.players} coalitions of {game.players} players, and at most "
            f"{MOST_PLAYERS_OF_PAIRS} players are possible; use fewer, such as words or spans."
        )
    coalitions = all_coalitions(game.players)
    members = coalitions.double()
    return members, members.sum(1, keepdim=True), dividends_of(game.values(coalitions))


def _paired(
    members: Float[Tensor, "coalitions players"], shares: Float[Tensor, "coalitions outputs"]
) -> Float[Tensor, "players players outputs"]:
    """The sum of the shares of all coalitions that both are in; 0 on the diagonal."""
    pairs = torch.stack([(members * share[:, None]).T @ members for share in shares.T], -1)
    return pairs * ~torch.eye(members.shape[1], dtype=torch.bool)[:, :, None]


def _estimate(game: CooperativeGame, singles: Tensor, pairs: Tensor, shapley: Tensor) -> PairEstimate:
    return PairEstimate(singles=singles, pairs=pairs, shapley=shapley, empty=game.empty, evaluations=game.evaluations)
