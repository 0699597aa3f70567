"""Ground-truth scores, literally: every way to break the ties, one after another, and what it scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations

#: From an order of the players, the most relevant first, and the players of the cause, to a score.
OfOrder = Callable[[Sequence[int], set[int]], float]


def orders(scores: Sequence[float]) -> Iterator[tuple[int, ...]]:
    """Every order of the players in which no score stands after a smaller one."""
    for order in permutations(range(len(scores))):
        if all(scores[order[k]] >= scores[order[k + 1]] for k in range(len(order) - 1)):
            yield order


def expectation(of_order: OfOrder, scores: Sequence[float], truth: set[int]) -> float:
    """The mean over all orders, each as likely as any other."""
    found = [of_order(order, truth) for order in orders(scores)]
    return sum(found) / len(found)


def best_rank(order: Sequence[int], truth: set[int]) -> int:
    """The first place, from 1, at which a player of the cause stands."""
    for place, player in enumerate(order):
        if player in truth:
            return place + 1
    raise AssertionError("no player is the cause")


def reciprocal_rank(order: Sequence[int], truth: set[int]) -> float:
    return 1 / best_rank(order, truth)


def pointing_game(k: int) -> OfOrder:
    return lambda order, truth: float(any(player in truth for player in order[:k]))


def rank_accuracy(order: Sequence[int], truth: set[int]) -> float:
    return len(set(order[: len(truth)]) & truth) / len(truth)


def probes(order: Sequence[int], truth: set[int]) -> float:
    return best_rank(order, truth) - 1


def mass_accuracy(scores: Sequence[float], truth: set[int]) -> float:
    total, of_truth = 0.0, 0.0
    for player, score in enumerate(scores):
        if score > 0:
            total += score
            if player in truth:
                of_truth += score
    return of_truth / total if total > 0 else 0.0
