"""Coalitions: all of them, or random ones."""

from __future__ import annotations

import math
from itertools import combinations

import torch
from jaxtyping import Bool
from torch import Tensor


def all_coalitions(players: int) -> Bool[Tensor, "coalitions players"]:
    """Every coalition, in the order of the number whose bit i says whether player i is present."""
    numbers = torch.arange(2**players)[:, None]
    return (numbers >> torch.arange(players)) % 2 == 1


def permutations(players: int, count: int, generator: torch.Generator) -> Tensor:
    """Random orders of the players, one a row, independent of each other."""
    return torch.rand(count, players, generator=generator, dtype=torch.float64).argsort(1)


def coalitions_of_size(
    players: int, size: int, count: int, generator: torch.Generator
) -> Bool[Tensor, "coalitions players"]:
    """Random coalitions of one size, drawn independently, so some may be equal."""
    members = permutations(players, count, generator)[:, :size]
    return torch.zeros(count, players, dtype=torch.bool).scatter_(1, members, True)


def distinct_coalitions_of_size(
    players: int, size: int, count: int, generator: torch.Generator
) -> Bool[Tensor, "coalitions players"]:
    """Random coalitions of one size, all different; every set of `count` coalitions is equally likely."""
    there_are = math.comb(players, size)
    if 2 * count >= there_are:
        everyone = list(combinations(range(players), size))
        chosen = torch.randperm(there_are, generator=generator)[:count].sort().values
        members = torch.tensor([everyone[i] for i in chosen.tolist()], dtype=torch.long).reshape(count, size)
        return torch.zeros(count, players, dtype=torch.bool).scatter_(1, members, True)
    found: dict[tuple[bool, ...], None] = {}
    while len(found) < count:
        drawn = coalitions_of_size(players, size, count - len(found), generator)
        found.update(dict.fromkeys(tuple(row) for row in drawn.tolist()))
    return torch.tensor(list(found), dtype=torch.bool).reshape(count, players)
