"""The exact metagame: against its definition, on random games."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import combinations, permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from apportion import ApportionError, NonFiniteRelevance
from apportion.metagame import MetaGame, exact, third_order

exactly = partial(assert_close, rtol=1e-10, atol=1e-10)
few = settings(max_examples=20)
games = st.tuples(st.integers(1, 5), st.integers(0, 10**6))


class Table:
    """Attributions that are looked up: random numbers for every coalition, garbage for targets that are absent."""

    def __init__(self, players: int, targets: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.payoffs = torch.randn(2**players, targets, generator=generator, dtype=torch.float64)
        self.asked: list[int] = []

    def __call__(self, coalitions: Tensor) -> Tensor:
        numbers = (coalitions.long() << torch.arange(coalitions.shape[1])).sum(1)
        self.asked += numbers.tolist()
        return self.payoffs[numbers]

    def of(self, members: Sequence[int], target: int) -> float:
        return self.payoffs[sum(1 << player for player in members), target].item()


def made(players: int, seed: int) -> tuple[Table, MetaGame]:
    """A game whose targets are all players, one of them twice, and one that does not play."""
    player_of = [*range(players), players - 1, None]
    table = Table(players, len(player_of), seed)
    return table, MetaGame(players, table, player_of)


def subsets(players: Sequence[int]) -> list[tuple[int, ...]]:
    return [chosen for size in range(len(players) + 1) for chosen in combinations(players, size)]


def by_definition(table: Table, players: int, source: int, target: int, always: Sequence[int]) -> float:
    joining = [p for p in range(players) if p != source and p not in always]
    n = len(joining) + 1
    return sum(
        (table.of([*some, source, *always], target) - table.of([*some, *always], target))
        / (n * math.comb(n - 1, len(some)))
        for some in subsets(joining)
    )


@few
@given(games)
def test_the_exact_values_are_the_definition(drawn: tuple[int, int]) -> None:
    players, seed = drawn
    table, game = made(players, seed)
    found = exact(game)
    for target, own in enumerate(game.player_of):
        always = [] if own is None else [own]
        for source in range(players):
            value = table.of(always, target) if source == own else by_definition(table, players, source, target, always)
            exactly(found.values[source, target].item(), value)
    assert found.standard_errors is None


@few
@given(games)
def test_a_target_is_divided_wholly_among_those_who_move_it(drawn: tuple[int, int]) -> None:
    players, seed = drawn
    table, game = made(players, seed)
    found = exact(game)
    everyone = list(range(players))
    for target, own in enumerate(game.player_of):
        rest = table.of([], target) if own is None else 0.0
        exactly(found.values[:, target].sum().item() + rest, table.of(everyone, target))
    exactly(found.first_order, table.payoffs[-1])


def test_an_absent_target_is_not_looked_at() -> None:
    table, game = made(4, 1)
    before = exact(game).values
    numbers = torch.arange(16)
    for target, own in enumerate(game.player_of):
        if own is not None:
            table.payoffs[(numbers >> own) % 2 == 0, target] = torch.nan
    exactly(exact(MetaGame(4, table, game.player_of)).values, before)


def test_where_all_targets_play_the_empty_coalition_is_never_asked_for() -> None:
    table = Table(3, 3, 0)
    game = MetaGame(3, table, range(3))
    exact(game)
    assert sorted(table.asked) == list(range(1, 8))
    assert game.evaluations == 7


@few
@given(games)
def test_the_third_order_is_the_metagame_of_the_second(drawn: tuple[int, int]) -> None:
    players, seed = drawn
    table, game = made(players, seed)
    found = third_order(game)

    def second(source: int, target: int, own: int | None, among: Sequence[int]) -> float:
        """By orders: the mean contribution of the source among some players, with the target's own always there."""
        joining = [p for p in among if p != own]
        always = [] if own is None else [own]
        orders = list(permutations(joining))
        gained = 0.0
        for order in orders:
            before = [*order[: order.index(source)], *always]
            gained += table.of([*before, source], target) - table.of(before, target)
        return gained / len(orders)

    for target, own in enumerate(game.player_of):
        for j in range(players):
            for k in range(players):
                if k == j or own in (j, k):
                    assert found[k, j, target] == 0
                    continue
                others = [p for p in range(players) if p not in (j, k, own)]
                n = len(others) + 1
                value = sum(
                    (second(j, target, own, [*some, j, k]) - second(j, target, own, [*some, j]))
                    / (n * math.comb(n - 1, len(some)))
                    for some in subsets(others)
                )
                exactly(found[k, j, target].item(), value)


def test_the_third_order_adds_up_to_the_second() -> None:
    table, game = made(5, 3)
    found, second = third_order(game), exact(game).values
    for target, own in enumerate(game.player_of):
        always = [] if own is None else [own]
        for j in set(range(5)) - set(always):
            together = table.of([*always, j], target) - table.of(always, target)
            exactly(found[:, j, target].sum().item() + together, second[j, target].item())


def test_too_many_players_and_wrong_targets_are_refused_in_one_line() -> None:
    with pytest.raises(ApportionError, match=r"2\^17 coalitions of 17 players"):
        exact(MetaGame(17, Table(1, 1, 0), [0]))
    with pytest.raises(ApportionError, match="at most 10 players"):
        third_order(MetaGame(11, Table(1, 1, 0), [0]))
    with pytest.raises(ApportionError, match="among the 2 players"):
        MetaGame(2, Table(2, 1, 0), [2])


def test_an_attribution_that_is_not_finite_is_refused() -> None:
    table, game = made(3, 0)
    table.payoffs[5, 0] = torch.inf
    with pytest.raises(NonFiniteRelevance, match="1 of 8 coalitions"):
        exact(game)
