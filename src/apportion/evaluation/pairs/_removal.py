"""Removal of pairs: how the target goes when the members of the best-ranked pairs are taken away."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from apportion.evaluation.pairs._one_score import of_pairs
from apportion.games import CooperativeGame


@dataclass(frozen=True, kw_only=True)
class PairRemoval:
    """The target while pairs are removed.

    Args:
        removed: How many players are gone, from 0 to all.
        target: What those that are left are paid.
        area: The mean height of the curve over the share of players that is gone, by the trapezoid rule.
    """

    removed: Int[Tensor, " step"]
    target: Float[Tensor, " step"]
    area: float


def pair_removal(game: CooperativeGame, scores: Float[Tensor, "players players"], *, seed: int = 0) -> PairRemoval:
    """Remove both members of the pair with the highest score, then of the next, until none is left.

    Scores count as they are, with their signs: a low area speaks for scores of pairs that raise the target. A step
    takes what is left of its pair; a pair that is gone makes none. Pairs with equal scores come in random order.

    Args:
        game: That pays the target; see `pair_payoff`.
        scores: Symmetric, one for each pair of the game's players.
        seed: Of the order of equal scores.

    Raises:
        ApportionError: The scores are not those of unordered pairs, or the game has other players.
    """
    every = of_pairs(scores)
    pairs = torch.combinations(torch.arange(len(scores)), 2)
    shuffled = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))
    order = shuffled[every[shuffled].argsort(descending=True, stable=True)]
    present = torch.ones(len(scores), dtype=torch.bool)
    coalitions = [present.clone()]
    for pair in pairs[order]:
        if bool(present[pair].any()):
            present[pair] = False
            coalitions.append(present.clone())
    left = torch.stack(coalitions)
    target, removed = game.values(left)[:, 0], (~left).sum(1)
    area = torch.trapezoid(target, removed.double() / len(scores)).item()
    return PairRemoval(removed=removed, target=target, area=area)
