"""Effects of pairs: what two players do together that neither does alone, by the model itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.core import AnyFeatures, ApportionError
from apportion.engine import Engine
from apportion.games import AnyMasker, CooperativeGame, players_of, target_payoff
from apportion.targets import Contrast, TargetsLike


@dataclass(frozen=True, kw_only=True)
class PairEffects:
    r"""The effects of pairs, in the unit of what was measured; 0 on the diagonal.

    Args:
        deletion: By deletion from the whole.
        insertion: By insertion into nothing but what is always present.
        evaluations: How many distinct coalitions were evaluated.
    """

    deletion: Float[Tensor, "players players"]
    insertion: Float[Tensor, "players players"]
    evaluations: int


def pair_effects(game: CooperativeGame) -> PairEffects:
    r"""The effects of pairs of players, with all other players present, and with none.

    - Deletion: $\Delta^-(i,j) = f(N) - f(N \setminus i) - f(N \setminus j) + f(N \setminus ij)$.
    - Insertion: $\Delta^+(i,j) = f(ij) - f(i) - f(j) + f(\emptyset)$.

    Both are second differences and symmetric; for players that add up they are 0. With n players the cost is
    $1 + n + n(n-1)/2$ evaluations each, made together.

    Args:
        game: Of 2 players or more, that pays one number (of several, the first counts); see `pair_payoff`.

    Raises:
        ApportionError: There is no pair, or a payoff is NaN or infinite.
    """
    n = game.players
    if n < 2:
        raise ApportionError(f"{n} player makes no pair; give 2 or more.")
    few = _singles_and_pairs(n)
    paid = game.values(torch.cat([~few, few]))[:, 0]
    if not bool(paid.isfinite().all()):
        raise ApportionError(f"{int((~paid.isfinite()).sum())} of {len(paid)} payoffs are NaN or infinite.")
    removed, joined = paid.chunk(2)
    return PairEffects(
        deletion=_second_differences(removed, n), insertion=_second_differences(joined, n), evaluations=game.evaluations
    )


def pair_payoff(
    engine: Engine,
    prompt: Any,
    *,
    target: TargetsLike = None,
    contrast: Contrast = None,
    players: AnyFeatures = "tokens",
    masker: AnyMasker = "auto",
) -> CooperativeGame:
    """The game that the parts of a prompt play for the target itself, read in batches without gradients.

    Args:
        engine: Of the model, such as its explainer.
        prompt: As in `Explainer.interactions`, and so are the others.
        target: See there; one.
        contrast: See there.
        players: The parts that can be removed; the same as for the interactions that are measured.
        masker: How the others are made absent; that of the interactions which are measured is their
            `options["masker"]`.
    """
    asked = engine.targets(prompt, target, contrast, "logit", None)
    if len(asked) != 1:
        raise ApportionError(f"effects of pairs are of one target at a time; {len(asked)} were given.")
    task = engine.prepare(prompt, asked, [])
    playing = players_of(task, 0, players)
    return CooperativeGame(len(playing.groups), target_payoff(task, 0, playing, masker))


def _singles_and_pairs(n: int) -> Bool[Tensor, "coalitions players"]:
    """Nobody, every player alone, every pair i < j."""
    pairs = torch.combinations(torch.arange(n), 2)
    found = torch.zeros(1 + n + len(pairs), n, dtype=torch.bool)
    found[1 : 1 + n] = torch.eye(n, dtype=torch.bool)
    found[1 + n :].scatter_(1, pairs, value=True)
    return found


def _second_differences(paid: Float[Tensor, " coalitions"], n: int) -> Float[Tensor, "players players"]:
    """For each pair the payoff of both members, less each member's own, plus that of the empty coalition."""
    i, j = torch.combinations(torch.arange(n), 2).T
    single = paid[1 : 1 + n]
    effects = paid.new_zeros(n, n)
    effects[i, j] = paid[1 + n :] - single[i] - single[j] + paid[0]
    return effects + effects.T
