"""Recall of annotated pairs: how many of those that belong together are among the best-ranked."""

from __future__ import annotations

from collections.abc import Collection

from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.evaluation.pairs._one_score import of_pairs

Pair = tuple[int, int]


def pair_recall(scores: Float[Tensor, "players players"], annotated: Collection[Pair], k: int) -> float:
    r"""The share of annotated pairs that are among the `k` best-ranked; ties count by expectation over their orders.

    Pairs are unordered, and each has one score: see `one_score_a_pair`.

    Args:
        scores: Symmetric; the largest rank first.
        annotated: Pairs of players, in any order.
        k: How many of the best-ranked pairs are looked at.

    Raises:
        ApportionError: A pair is not among the players, none is given, `k` is out of range, or scores are no scores of
            unordered pairs.
    """
    wanted = _pairs(annotated, len(scores))
    every = of_pairs(scores)
    _check(k, len(every))
    found = []
    for i, j in sorted(wanted):
        above, same = int((every > scores[i, j]).sum()), int((every == scores[i, j]).sum())
        found.append(min(max((k - above) / same, 0.0), 1.0))
    return sum(found) / len(found)


def random_recall(players: int, k: int) -> float:
    """What a random order of all pairs finds on average, exactly: k of n(n − 1)/2, however many are annotated.

    Args:
        players: How many there are.
        k: How many of the best-ranked pairs are looked at.
    """
    pairs = players * (players - 1) // 2
    _check(k, pairs)
    return k / pairs


def _pairs(annotated: Collection[Pair], players: int) -> set[Pair]:
    wanted = {(min(pair), max(pair)) for pair in annotated}
    wrong = [pair for pair in wanted if not 0 <= pair[0] < pair[1] < players]
    if wrong or not wanted:
        raise ApportionError(
            f"the annotated pairs {sorted(annotated)} do not fit; give 1 or more of different players below {players}."
        )
    return wanted


def _check(k: int, pairs: int) -> None:
    if not 1 <= k <= pairs:
        raise ApportionError(f"k={k} is not possible with {pairs} pairs; give 1 to {pairs}.")
