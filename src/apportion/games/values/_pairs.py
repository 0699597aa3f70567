"""Pairs of a coalition and its complement, drawn for the regression of Shapley values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from apportion.games.values._coalitions import coalitions_of_size, distinct_coalitions_of_size


@dataclass(frozen=True)
class Pairs:
    """Coalitions, each of which also represents its complement.

    Args:
        coalitions: The smaller coalition of each pair.
        weights: The weight of each pair in the regression.
        strata: For each pair, the number of the group that it was drawn from.
        drawn: For each group, the share that was drawn; 1 for a complete group.
    """

    coalitions: Bool[Tensor, "pairs players"]
    weights: Float[Tensor, " pairs"]
    strata: Int[Tensor, " pairs"]
    drawn: Float[Tensor, " strata"]


@dataclass(frozen=True)
class _Size:
    """The pairs whose smaller coalition has one size."""

    size: int
    count: int
    mass: float  # the sum of their weights 1 / (C(n, s) s (n − s))
    leverage: float  # the sum of their leverage scores; both coalitions of a pair count


def _sizes(players: int) -> list[_Size]:
    sizes = []
    for size in range(1, players // 2 + 1):
        # A coalition of half the players has a complement of the same size, so there are half as many pairs.
        halves = 1 if 2 * size == players else 2
        count = math.comb(players, size) * halves // 2
        sizes.append(_Size(size, count, halves / (2 * size * (players - size)), halves))
    return sizes


def _distinct_pairs(players: int, size: _Size, count: int, generator: torch.Generator) -> Tensor:
    if 2 * size.size < players:
        return distinct_coalitions_of_size(players, size.size, count, generator)
    # Of the two halves, take the one with the last player.
    others = distinct_coalitions_of_size(players - 1, size.size - 1, count, generator)
    return torch.cat([others, torch.ones(count, 1, dtype=torch.bool)], 1)


def drawn_by_leverage(players: int, pairs: int, generator: torch.Generator) -> Pairs:
    """The same number of pairs of every size, all different, weighted by how many of their size they represent."""
    sizes = _sizes(players)
    counts = _allotted(sizes, pairs)
    each = list(zip(sizes, counts, strict=True))
    return Pairs(
        coalitions=torch.cat([_distinct_pairs(players, s, m, generator) for s, m in each]),
        weights=torch.cat([torch.full((m,), s.mass / m, dtype=torch.float64) for s, m in each]),
        strata=torch.arange(len(sizes)).repeat_interleave(torch.tensor(counts)),
        drawn=torch.tensor([m / s.count for s, m in each], dtype=torch.float64),
    )


def _allotted(sizes: list[_Size], pairs: int) -> list[int]:
    """The number of pairs of each size: in proportion to their leverage, at most as many as exist."""
    counts = dict.fromkeys(range(len(sizes)), 0)
    open_sizes, left = list(counts), pairs
    while True:
        total = sum(sizes[k].leverage for k in open_sizes)
        filled = [k for k in open_sizes if left * sizes[k].leverage >= sizes[k].count * total]
        if not filled:
            break
        for k in filled:
            counts[k] = sizes[k].count
            left -= sizes[k].count
        open_sizes = [k for k in open_sizes if k not in filled]
    expected = {k: left * sizes[k].leverage / total for k in open_sizes}
    counts.update({k: math.floor(amount) for k, amount in expected.items()})
    for k in sorted(open_sizes, key=lambda k: expected[k] % 1, reverse=True)[: pairs - sum(counts.values())]:
        counts[k] += 1
    return list(counts.values())


def drawn_by_kernel(players: int, pairs: int, generator: torch.Generator) -> Pairs:
    """All pairs of the sizes that the budget covers, and others in proportion to the Shapley kernel."""
    sizes, left = _sizes(players), pairs
    whole: list[_Size] = []
    while sizes and left * sizes[0].mass >= sizes[0].count * sum(s.mass for s in sizes):
        whole.append(sizes.pop(0))
        left -= whole[-1].count
    coalitions = [_distinct_pairs(players, s, s.count, generator) for s in whole]
    weights = [torch.full((s.count,), s.mass / s.count, dtype=torch.float64) for s in whole]
    drawn = [1.0] * len(whole)
    if sizes and left:
        masses = torch.tensor([s.mass for s in sizes], dtype=torch.float64)
        chosen = torch.multinomial(masses, left, replacement=True, generator=generator)
        counts = torch.bincount(chosen, minlength=len(sizes)).tolist()
        coalitions += [coalitions_of_size(players, s.size, m, generator) for s, m in zip(sizes, counts, strict=True)]
        weights.append(torch.full((left,), float(masses.sum()) / left, dtype=torch.float64))
        drawn.append(0.0)
    strata = torch.tensor([k for k, rows in enumerate(weights) for _ in range(len(rows))])
    return Pairs(torch.cat(coalitions), torch.cat(weights), strata, torch.tensor(drawn, dtype=torch.float64))
