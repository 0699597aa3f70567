"""Perturbation measures by their definitions: features removed one by one from a set, in plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

Value = Callable[[frozenset[int]], float]


def by_falling_score(scores: Sequence[float]) -> list[int]:
    """Players, the one with the largest signed score first; no two scores may be equal."""
    assert len(set(scores)) == len(scores)
    return sorted(range(len(scores)), key=lambda player: -scores[player])


def curve(order: Sequence[int], counts: Sequence[int], value: Value) -> list[float]:
    """The value after so many players of an order are gone."""
    values = []
    for count in counts:
        present = set(order)
        for player in order[:count]:
            present.remove(player)
        values.append(value(frozenset(present)))
    return values


def abpc(scores: Sequence[float], counts: Sequence[int], value: Value) -> float:
    """Area under LeRF less area under MoRF, over the fraction of players that are gone."""
    order = by_falling_score(scores)
    morf, lerf = curve(order, counts, value), curve(order[::-1], counts, value)
    area = 0.0
    for k in range(1, len(counts)):
        width = (counts[k] - counts[k - 1]) / len(order)
        area += width * (lerf[k - 1] + lerf[k]) / 2
        area -= width * (morf[k - 1] + morf[k]) / 2
    return area


def comprehensiveness(scores: Sequence[float], sizes: Sequence[int], value: Value) -> float:
    r"""$\frac{1}{|B|} \sum_{k \in B} m(x) - m(x \setminus r_k)$ with the rationale of the k largest scores.

    Source:
        DeYoung et al. 2020, arXiv 1911.03429, §4.2.
    """
    everyone = frozenset(range(len(scores)))
    total = 0.0
    for size in sizes:
        rationale = frozenset(by_falling_score(scores)[:size])
        total += value(everyone) - value(everyone - rationale)
    return total / len(sizes)


def sufficiency(scores: Sequence[float], sizes: Sequence[int], value: Value) -> float:
    r"""$\frac{1}{|B|} \sum_{k \in B} m(x) - m(r_k)$; see `comprehensiveness`."""
    everyone = frozenset(range(len(scores)))
    total = 0.0
    for size in sizes:
        rationale = frozenset(by_falling_score(scores)[:size])
        total += value(everyone) - value(rationale)
    return total / len(sizes)


def sums_and_drops(
    scores: Sequence[float], size: int, value: Value, sets: Sequence[Sequence[int]] | None = None
) -> tuple[list[float], list[float]]:
    """For sets of players (by default all of a size) the sum of their scores, and what the value loses without them."""
    everyone = frozenset(range(len(scores)))
    sums, drops = [], []
    for removed in combinations(range(len(scores)), size) if sets is None else sets:
        sums.append(sum(scores[player] for player in removed))
        drops.append(value(everyone) - value(everyone - frozenset(removed)))
    return sums, drops


def infidelity(sums: Sequence[float], drops: Sequence[float], scale: float, offset: float) -> float:
    """Mean squared error of the scaled sums, as a part of the variance of the drops.

    Source:
        Yeh et al. 2019, arXiv 1901.09392, definition 2.1, for the numerator.
    """
    mean = sum(drops) / len(drops)
    error = sum((scale * s + offset - d) ** 2 for s, d in zip(sums, drops, strict=True))
    return error / sum((d - mean) ** 2 for d in drops)


def correlation(sums: Sequence[float], drops: Sequence[float]) -> float:
    """Pearson's, from raw moments."""
    n = len(sums)
    covariance = n * sum(s * d for s, d in zip(sums, drops, strict=True)) - sum(sums) * sum(drops)
    of_sums = n * sum(s * s for s in sums) - sum(sums) ** 2
    of_drops = n * sum(d * d for d in drops) - sum(drops) ** 2
    return covariance / math.sqrt(of_sums * of_drops)
