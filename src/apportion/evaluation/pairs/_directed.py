"""Directed effects: how far deleting or inserting one player moves the attribution of another."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import AnyFeatures, ApportionError
from apportion.engine import Engine
from apportion.evaluation.pairs._effects import PairEffects
from apportion.games import AnyMasker, players_of
from apportion.metagame import MetaGame, attribution_payoff, masker_of
from apportion.targets import Contrast, TargetsLike


def directed_effects(game: MetaGame) -> PairEffects:
    r"""How far each player changes the attribution of each other, with all other players present, and with none.

    The rows are sources j, the columns targets i:

    - Deletion: $\varphi_i(N) - \varphi_i(N \setminus j)$.
    - Insertion: $\varphi_i(ij) - \varphi_i(i)$.

    The two coalitions differ in j alone, so these are the ends of the sum whose weighted mean is $\varphi_{j \to i}$;
    with two players they are it. The cost is $1 + 2n + n(n-1)/2$ evaluations.

    Args:
        game: Whose targets are its players, in their order; see `directed_payoff`.

    Raises:
        ApportionError: There is no pair, or the targets are not the players.
    """
    n = game.players
    if n < 2 or game.player_of != tuple(range(n)):
        raise ApportionError(f"directed effects are between 2 or more players, each a target; {n} players were given.")
    single = torch.eye(n, dtype=torch.bool)
    i, j = torch.combinations(torch.arange(n), 2).T
    paid = game.values(torch.cat([torch.ones(1, n, dtype=torch.bool), ~single, single, single[i] | single[j]]))
    full, without, alone, together = paid.split([1, n, n, len(i)])
    deletion = full - without
    insertion = torch.zeros(n, n, dtype=paid.dtype)
    rows = torch.arange(len(i))
    insertion[j, i] = together[rows, i] - alone[i, i]
    insertion[i, j] = together[rows, j] - alone[j, j]
    return PairEffects(deletion=deletion.fill_diagonal_(0), insertion=insertion, evaluations=game.evaluations)


def directed_payoff(
    engine: Engine,
    prompt: Any,
    *,
    method: Any,
    target: TargetsLike = None,
    contrast: Contrast = None,
    players: AnyFeatures = "tokens",
    masker: AnyMasker = "auto",
) -> MetaGame:
    """The metagame of a prompt's players, for `directed_effects`.

    Args:
        engine: Of the model, such as its explainer.
        prompt: As in `Explainer.interactions`, and so are the others.
        method: The first-order method.
        target: See there; one.
        contrast: See there.
        players: The parts that can be removed; the same as for the interactions that are measured.
        masker: How the others are made absent, as in `Explainer.interactions`.
    """
    asked = engine.targets(prompt, target, contrast, "logit", None)
    if len(asked) != 1:
        raise ApportionError(f"directed effects are of one target at a time; {len(asked)} were given.")
    chosen = engine.method(method, engine.prompt(prompt))
    task = engine.prepare(prompt, asked, [chosen])
    playing = players_of(task, 0, players)
    payoff = attribution_payoff(task, chosen, playing, masker_of(task, chosen, masker), playing.groups)
    return MetaGame(len(playing.groups), payoff, range(len(playing.groups)))


def of_directions(scores: Float[Tensor, "players players"]) -> Float[Tensor, " directions"]:
    """What stands off the diagonal: every direction by itself."""
    found: Tensor = scores[~torch.eye(len(scores), dtype=torch.bool)]
    return found
