"""The game: each coalition is evaluated once, within the budget, and its payoff may be a vector."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from apportion import ApportionError
from apportion.games import CooperativeGame
from apportion.games._game import AT_ONCE
from apportion.games.values._coalitions import all_coalitions, coalitions_of_size, distinct_coalitions_of_size


class Counting:
    """A payoff of two outputs that remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Tensor] = []

    def __call__(self, coalitions: Tensor) -> Tensor:
        self.asked.append(coalitions)
        numbers = (coalitions * 2 ** torch.arange(coalitions.shape[1])).sum(1)
        return torch.stack([numbers, -numbers], 1).float()


def rows(*coalitions: list[int]) -> Tensor:
    return torch.tensor(coalitions, dtype=torch.bool)


def test_each_coalition_is_evaluated_once():
    payoff = Counting()
    game = CooperativeGame(3, payoff)
    first = game.values(rows([1, 0, 0], [0, 1, 1], [1, 0, 0]))
    again = game.values(rows([0, 1, 1], [1, 1, 0], [1, 0, 0]))
    expected = torch.tensor([[1.0, -1.0], [6, -6], [1, -1]], dtype=torch.float64)
    assert_close(first, expected)
    assert_close(again, torch.tensor([[6.0, -6.0], [3, -3], [1, -1]], dtype=torch.float64))
    assert sum(len(asked) for asked in payoff.asked) == game.evaluations == 3


def test_empty_and_full_are_coalitions_like_others():
    payoff = Counting()
    game = CooperativeGame(3, payoff)
    assert game.full.tolist() == [7, -7]
    assert game.empty.tolist() == [0, 0]
    game.values(all_coalitions(3))
    assert game.evaluations == 8
    assert sum(len(asked) for asked in payoff.asked) == 8


def test_many_coalitions_are_asked_for_in_parts_of_similar_size_and_keep_their_order():
    payoff = Counting()
    game = CooperativeGame(10, payoff)
    everyone = all_coalitions(10)[torch.randperm(1024, generator=torch.Generator().manual_seed(0))]
    numbers = (everyone * 2 ** torch.arange(10)).sum(1).double()
    assert_close(game.values(everyone)[:, 0], numbers)
    assert [len(asked) for asked in payoff.asked] == [AT_ONCE] * 4
    sizes = torch.cat([asked.sum(1) for asked in payoff.asked])
    assert bool((sizes.diff() >= 0).all())


def test_a_budget_is_never_exceeded():
    payoff = Counting()
    game = CooperativeGame(3, payoff, budget=3)
    game.values(rows([1, 0, 0], [0, 1, 0]))
    with pytest.raises(ApportionError, match=r"^4 coalitions are needed, but budget=3 [^\n]*$"):
        game.values(rows([0, 0, 1], [1, 1, 1]))
    assert game.evaluations == 2
    game.values(rows([1, 0, 0], [0, 0, 1]))
    assert game.evaluations == 3


def test_what_is_not_defined_is_passed_on():
    game = CooperativeGame(2, lambda coalitions: torch.where(coalitions, 1.0, torch.nan))
    assert_close(
        game.values(rows([1, 0], [0, 1])),
        torch.tensor([[1.0, torch.nan], [torch.nan, 1.0]], dtype=torch.float64),
        equal_nan=True,
    )


def test_what_does_not_fit_is_refused_in_one_line():
    with pytest.raises(ApportionError, match=r"^a game needs at least 1 player[^\n]*$"):
        CooperativeGame(0, Counting())
    with pytest.raises(ApportionError, match=r"^coalitions of shape \(1, 2\) were given; the game has 3 [^\n]*$"):
        CooperativeGame(3, Counting()).values(rows([1, 0]))
    with pytest.raises(ApportionError, match=r"^the payoff of 1 coalitions has shape \(1,\)[^\n]*$"):
        CooperativeGame(3, lambda coalitions: coalitions.sum(1)).values(rows([1, 0, 0]))
    with pytest.raises(ApportionError, match=r"must have the shape \(2, outputs\)\.$"):
        CooperativeGame(3, lambda coalitions: torch.zeros(1, 1)).values(rows([1, 0, 0], [0, 1, 0]))
    growing = CooperativeGame(3, lambda coalitions: torch.zeros(len(coalitions), int(coalitions.sum())))
    growing.values(rows([1, 0, 0]))
    with pytest.raises(ApportionError, match=r"shape \(1, 2\); it must have the shape \(1, 1\)\.$"):
        growing.values(rows([1, 1, 0]))


@settings(max_examples=40)
@given(st.integers(1, 9), st.data())
def test_distinct_coalitions_are_distinct_and_of_their_size(players, data):
    size = data.draw(st.integers(0, players))
    there_are = int((all_coalitions(players).sum(1) == size).sum())
    count = data.draw(st.integers(0, there_are))
    drawn = distinct_coalitions_of_size(players, size, count, torch.Generator().manual_seed(0))
    assert drawn.shape == (count, players)
    assert bool((drawn.sum(1) == size).all())
    assert len({tuple(row) for row in drawn.tolist()}) == count


@pytest.mark.parametrize("count", [3, 7])
def test_every_coalition_of_a_size_is_drawn_equally_often(count):
    generator = torch.Generator().manual_seed(0)
    times = 1000
    drawn = torch.cat([distinct_coalitions_of_size(5, 2, count, generator) for _ in range(times)])
    often = drawn.unique(dim=0, return_counts=True)[1]
    expected = times * count / 10
    assert len(often) == 10
    assert float((often - expected).abs().max()) < 5 * expected**0.5
    drawn = coalitions_of_size(5, 2, 10_000, generator)
    assert float((drawn.unique(dim=0, return_counts=True)[1] - 1000).abs().max()) < 5 * 1000**0.5
