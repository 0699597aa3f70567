"""Draws: coalitions shared by all targets; with the same seed a larger budget extends the same sample."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.games.values import Pairs, coalitions_of_size, distinct_coalitions_of_size

#: Above this number, coalitions of one size are not listed but drawn until enough are distinct.
_LISTED = 2**14


@dataclass(frozen=True)
class Draws:
    """Distinct coalitions, none of them empty or full.

    Args:
        coalitions: All singletons, and others drawn at random.
        shares: The share of all coalitions of a size that was drawn, for sizes from 0 to all players.
    """

    coalitions: Bool[Tensor, "coalitions players"]
    shares: Float[Tensor, " sizes"]


def drawn(players: int, count: int, seed: int) -> Draws:
    """All singletons and `count` larger coalitions, drawn so that every target meets all sizes equally often.

    A coalition of t players contains a target with probability t / n, so sizes are drawn in proportion to 1 / t, as far
    as enough coalitions exist. Within a size they are drawn without replacement.
    """
    sizes = range(2, players)
    counts = _shared_out(count, {t: math.comb(players, t) for t in sizes}, lambda t: 1 / t)
    seeds = _seeds(players, torch.Generator().manual_seed(seed))
    found = [torch.eye(players, dtype=torch.bool)]
    found += [_of_size(players, t, counts[t], seeds[t]) for t in sizes]
    shares = [counts[t] / math.comb(players, t) if t in counts else 1.0 for t in range(players + 1)]
    return Draws(torch.cat(found), torch.tensor(shares, dtype=torch.float64))


def drawn_in_pairs(players: int, pairs: int, generator: torch.Generator) -> Pairs:
    """Equally many pairs of every size, as in `drawn_by_leverage`; a larger number extends the same sample."""
    sizes = range(1, players // 2 + 1)
    there_are = {s: math.comb(players, s) // (2 if 2 * s == players else 1) for s in sizes}
    leverages = {s: 1.0 if 2 * s == players else 2.0 for s in sizes}
    counts = _shared_out(pairs, there_are, leverages.__getitem__)
    seeds = _seeds(players, generator)
    coalitions, weights = [], []
    for s in sizes:
        if 2 * s < players:
            coalitions.append(_of_size(players, s, counts[s], seeds[s]))
        else:  # of the two complements the one with the last player
            others = _of_size(players - 1, s - 1, counts[s], seeds[s])
            coalitions.append(torch.cat([others, torch.ones(counts[s], 1, dtype=torch.bool)], 1))
        mass = leverages[s] / (2 * s * (players - s))
        weights.append(torch.full((counts[s],), mass / max(1, counts[s]), dtype=torch.float64))
    return Pairs(
        coalitions=torch.cat(coalitions),
        weights=torch.cat(weights),
        strata=torch.arange(len(sizes)).repeat_interleave(torch.tensor(list(counts.values()))),
        drawn=torch.tensor([counts[s] / there_are[s] for s in sizes], dtype=torch.float64),
    )


def _shared_out(count: int, there_are: dict[int, int], weight: Callable[[int], float]) -> dict[int, int]:
    """How many of each size: in proportion to their weights, and never fewer when the total grows.

    Each in turn goes to the size that is furthest behind (Sainte-Laguë's divisors); rounding shares of the total could
    take one away from a size when the total grows.
    """
    counts = dict.fromkeys(there_are, 0)
    queue = [(0.5 / weight(size), size) for size in there_are]
    heapq.heapify(queue)
    for _ in range(min(count, sum(there_are.values()))):
        _, size = heapq.heappop(queue)
        counts[size] += 1
        if counts[size] < there_are[size]:
            heapq.heappush(queue, ((counts[size] + 0.5) / weight(size), size))
    return counts


def _seeds(players: int, generator: torch.Generator) -> list[int]:
    """A seed for each size, so that draws of one size do not depend on the number of draws of others."""
    return torch.randint(2**62, (players + 1,), generator=generator).tolist()


def _of_size(players: int, size: int, count: int, seed: int) -> Bool[Tensor, "coalitions players"]:
    """The first `count` of an endless order of distinct coalitions of one size."""
    generator = torch.Generator().manual_seed(seed)
    there_are = math.comb(players, size)
    if there_are <= _LISTED:
        everyone = distinct_coalitions_of_size(players, size, there_are, torch.Generator())
        return everyone[torch.randperm(there_are, generator=generator)[:count]]
    found: dict[bytes, Tensor] = {}
    while len(found) < count:
        for row in coalitions_of_size(players, size, 256, generator):
            found.setdefault(row.numpy().tobytes(), row)
    return torch.stack(list(found.values())[:count]) if count else torch.zeros(0, players, dtype=torch.bool)
