"""Restricted games: the Shapley values within every coalition, so that Meta-Shapley costs no more than one game."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.games import (
    AnyMasker,
    CooperativeGame,
    Delete,
    Players,
    Replace,
    ZeroEmbedding,
    as_masker,
    in_prompt,
    players_of,
    target_payoff,
)
from apportion.games.values import MOST_PLAYERS_OF_PAIRS, all_coalitions, dividends_of
from apportion.metagame._attribution_payoff import AttributionPayoff
from apportion.methods import Method, Shapley
from apportion.task import AttributionTask

#: Maskers under which removing players one after another is the same as removing them together.
_LASTING = (Delete, Replace, ZeroEmbedding)


def restricted_shapley(payoffs: Float[Tensor, "coalitions outputs"]) -> Float[Tensor, "coalitions players outputs"]:
    r"""The Shapley values of a game restricted to a coalition's members, for every coalition.

    $\varphi_i(T) = \sum_{S \subseteq T,\, i \in S} m(S) / |S|$ with the game's dividends m; 0 for i outside T.

    Args:
        payoffs: The payoff of every coalition, in the order of `all_coalitions`.

    Source:
        Harsanyi 1963; a restricted game has the dividends of the whole one.
    """
    players = len(payoffs).bit_length() - 1
    members = all_coalitions(players).double()
    shares = dividends_of(payoffs) / members.sum(1, keepdim=True).clamp_min(1)
    found = members[:, :, None] * shares[:, None]
    for player in range(players):  # from dividends to sums over all subsets
        without, joined = found.view(-1, 2, 2**player, players, payoffs.shape[1]).unbind(1)
        joined += without
    return found


def restricted_payoff(
    task: AttributionTask,
    method: Method,
    players: Players,
    masker: AnyMasker,
    targets: Sequence[Sequence[int]],
    *,
    progress: bool,
) -> AttributionPayoff | None:
    """The same as `attribution_payoff` where the method is Shapley on the same players: from one game of the target.

    The Shapley values of a prompt without some tokens are those of the game restricted to the others. So 2^n
    evaluations of the target suffice for all coalitions, where a new game for each takes up to 3^n.

    Returns:
        None for any other method, for random coalitions, for players or a masker other than the metagame's, and for
        more than 14 players.
    """
    if type(method) is not Shapley or method.estimator not in ("auto", "exact"):
        return None
    chosen = in_prompt(as_masker(masker), task)
    own = players_of(task, 0, method.features)
    ours = isinstance(method.features, str) and method.features in ("tokens", "patches")
    same = own.groups == players.groups and in_prompt(as_masker(method.masker), task) == chosen
    if not ours or not same or not isinstance(chosen, _LASTING) or len(players.groups) > MOST_PLAYERS_OF_PAIRS:
        return None
    count = len(players.groups)
    of_group = torch.tensor([[float(group[0] in members) for members in targets] for group in players.groups]).double()

    @cache
    def known() -> Float[Tensor, "coalitions outputs targets"]:
        game = CooperativeGame(count, target_payoff(task, 0, players, chosen), progress=progress, label="shapley")
        return torch.einsum("cpo,pt->cot", restricted_shapley(game.values(all_coalitions(count))), of_group)

    def payoff(coalitions: Tensor) -> Tensor:
        return known()[coalitions.long() @ 2 ** torch.arange(count)].flatten(1)

    return payoff
