"""Estimators of the metagame: against all coalitions, all orders, and their own standard errors."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from functools import partial
from itertools import permutations as orders

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from apportion import ApportionError
from apportion.games import CooperativeGame, exact_shapley
from apportion.games.values._coalitions import all_coalitions
from apportion.metagame import MetaEstimate, MetaGame, estimated, exact, permutations, regression, tree_proxy
from apportion.metagame.estimators import _trees
from apportion.metagame.estimators._design import design
from apportion.metagame.estimators._draws import drawn, drawn_in_pairs
from apportion.metagame.estimators._permutations import from_orders
from apportion.metagame.estimators._trees import Leaves, boosted

exactly = partial(assert_close, rtol=1e-9, atol=1e-9)
SAMPLING = {"regression": regression, "tree-proxy": tree_proxy, "permutations": permutations}
sampling = pytest.mark.parametrize("estimator", SAMPLING.values(), ids=SAMPLING)
drawing = pytest.mark.parametrize("estimator", [regression, tree_proxy])


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer trees that learn faster: as right, and quicker."""
    monkeypatch.setattr(_trees, "TREES", 6)
    monkeypatch.setattr(_trees, "LEARNING_RATE", 0.6)


class Payoff:
    """Random attributions, smooth enough to be estimated; it counts which coalitions it was asked for."""

    def __init__(self, players: int, targets: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.first = torch.randn(players, targets, generator=generator, dtype=torch.float64)
        self.second = torch.randn(players, players, targets, generator=generator, dtype=torch.float64) / players
        self.third = torch.randn(players, targets, generator=generator, dtype=torch.float64) / 2
        self.asked: set[tuple[bool, ...]] = set()

    def __call__(self, coalitions: Tensor) -> Tensor:
        self.asked |= {tuple(row) for row in coalitions.tolist()}
        there = coalitions.double()
        pairs = torch.einsum("cj,ck,jkt->ct", there, there, self.second)
        return there @ self.first + pairs + torch.tanh(there @ self.third) + 1


def made(players: int, player_of: list[int | None] | None = None, seed: int = 0) -> tuple[Payoff, MetaGame]:
    chosen = list(range(players)) if player_of is None else player_of
    payoff = Payoff(players, len(chosen), seed)
    return payoff, MetaGame(players, payoff, chosen)


def error(estimate: MetaEstimate, truth: MetaEstimate) -> float:
    return float(((estimate.values - truth.values) ** 2).sum())


MIXED = [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 4, None], [2, None, None], [None, None]]


@pytest.mark.parametrize("player_of", MIXED)
def test_all_orders_give_the_exact_values(player_of: list[int | None]):
    _, game = made(5, player_of)
    every = torch.tensor(list(orders(range(5))))
    exactly(from_orders(game, every)[0], exact(game).values)


@drawing
@pytest.mark.parametrize("player_of", MIXED)
def test_all_coalitions_give_the_exact_values_without_error(
    estimator: Callable[..., MetaEstimate], player_of: list[int | None]
):
    _, game = made(5, player_of)
    found = estimator(game, budget=32)
    exactly(found.values, exact(game).values)
    assert found.standard_errors is not None
    assert float(found.standard_errors.max()) < 1e-9


@sampling
@pytest.mark.parametrize("player_of", [[*range(9)], [*range(9), 3, None], [None, None]])
def test_values_sum_exactly_and_come_near_within_the_budget(
    estimator: Callable[..., MetaEstimate], player_of: list[int | None]
):
    payoff, game = made(9, player_of)
    _, whole = made(9, player_of)
    found = estimator(game, budget=200, seed=1)
    truth = exact(whole)
    assert len(payoff.asked) == found.evaluations <= 200
    for target, player in enumerate(player_of):
        alone = 0 if player is not None else truth.main_effect[target]
        exactly(found.values[:, target].sum(), truth.first_order[target] - alone)
        if player is not None:
            exactly(found.values[player, target], truth.main_effect[target])
            assert found.standard_errors is not None
            assert found.standard_errors[player, target] == 0
    spread = float(truth.values.norm() ** 2)
    assert error(found, truth) < (0.6 if estimator is permutations else 0.05) * spread


def test_a_regression_is_exact_for_additive_attributions_of_any_size_curve():
    weights = torch.randn(10, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def payoff(coalitions: Tensor) -> Tensor:
        count = coalitions.sum(1, keepdim=True).double()
        return coalitions.double() @ weights + 3 / count + count * (10 - count)

    found = regression(MetaGame(10, payoff, range(10)), budget=90)
    exactly(found.values, exact(MetaGame(10, payoff, range(10))).values)
    assert found.standard_errors is not None
    assert float(found.standard_errors.max()) < 1e-9


def test_over_all_coalitions_the_curves_do_not_touch_the_players_columns():
    everyone = drawn(7, 2**7, 0)
    fit = design(everyone, 2)
    assert fit is not None
    weights = torch.tensor([1 / (s * (6 - s) * math.comb(6, s)) for s in fit.sizes.tolist()], dtype=torch.float64)
    products = fit.regressors.T @ (weights[:, None] * fit.regressors)
    assert float(products[:6, 6:].abs().max()) < 1e-12


@sampling
def test_standard_errors_are_as_large_as_errors(estimator: Callable[..., MetaEstimate]):
    payoff, game = made(9, seed=3)
    truth = exact(game)
    seeds = range(2 if estimator is tree_proxy else 20)
    found = [estimator(MetaGame(9, payoff, range(9)), budget=220, seed=seed) for seed in seeds]
    errors = sum(error(one, truth) for one in found)
    thought = sum(float((one.standard_errors**2).sum()) for one in found if one.standard_errors is not None)
    assert 0.5 < (errors / thought) ** 0.5 < 1.6


@pytest.mark.parametrize("players", [1, 2, 3])
@sampling
def test_few_players_are_exact(estimator: Callable[..., MetaEstimate], players: int):
    _, game = made(players, [*range(players), None])
    if players < 3:
        exactly(estimator(game, budget=8).values, exact(game).values)
    else:
        exactly(estimator(game, budget=8).values[:, -1].sum(), exact(game).values[:, -1].sum())


def test_a_larger_budget_draws_the_same_and_more():
    def coalitions(count: int) -> set[tuple[bool, ...]]:
        return {tuple(row) for row in drawn(20, count, 5).coalitions.tolist()}

    def pairs(count: int) -> set[tuple[bool, ...]]:
        rows = drawn_in_pairs(20, count, torch.Generator().manual_seed(5)).coalitions
        return {tuple(row) for row in rows.tolist()}

    for some in (coalitions, pairs):
        known: set[tuple[bool, ...]] = set()
        for count in (30, 31, 77, 400, 1000):
            now = some(count)
            assert known <= now
            known = now
    assert len(coalitions(400)) == 420
    assert len(pairs(400)) == 400


@sampling
def test_a_larger_budget_asks_again_for_nothing(estimator: Callable[..., MetaEstimate]):
    payoff, game = made(10)
    estimator(game, budget=90, seed=2)
    before = set(payoff.asked)
    fresh, other = made(10)
    estimator(other, budget=180, seed=2)
    assert before < fresh.asked


def test_every_target_meets_all_sizes_about_equally_often():
    draws = drawn(24, 600, 0)
    counts = draws.coalitions[draws.coalitions[:, 3]].sum(1).bincount(minlength=24)[3:24]
    assert abs(counts.double().mean() - 600 / 24 / sum(1 / t for t in range(2, 24))) < 1
    assert int(counts.min()) > 0


def test_leaves_have_the_shapley_values_of_the_game_that_they_are():
    generator = torch.Generator().manual_seed(0)
    kind = torch.randint(3, (30, 6), generator=generator)
    leaves = Leaves(kind == 1, kind == 2, torch.randn(30, 2, generator=generator, dtype=torch.float64))
    exactly(leaves.shapley_values(), exact_shapley(CooperativeGame(6, leaves.predict)).values)


def test_leaves_predict_what_their_trees_predict():
    coalitions = all_coalitions(7)
    payoffs = Payoff(7, 2)(coalitions)
    leaves = boosted(coalitions, payoffs, 0)
    assert float((leaves.predict(coalitions) - payoffs).var()) < 0.05 * float(payoffs.var())
    # A leaf for every coalition and tree: none contradicts itself.
    assert not bool((leaves.present & leaves.absent).any())


def test_a_seed_gives_the_same_values_again():
    for estimator in SAMPLING.values():
        one, same, other = (estimator(made(9)[1], budget=120, seed=seed) for seed in (4, 4, 5))
        assert torch.equal(one.values, same.values)
        assert not torch.equal(one.values, other.values)


@pytest.mark.parametrize("name", ["regression", "tree-proxy", "permutations"])
def test_a_budget_that_is_too_small_names_the_least_and_evaluates_nothing(name: str):
    payoff, game = made(9)
    with pytest.raises(ApportionError, match=r"budget=12 is too small.*give at least \d+") as refusal:
        estimated(game, estimator=name, budget=12)
    assert not payoff.asked
    least = int(str(refusal.value).split("at least ")[1].split(",")[0])
    estimated(game, estimator=name, budget=least)
    with pytest.raises(ApportionError, match=f"at least {least}"):
        estimated(made(9)[1], estimator=name, budget=least - 1)


def test_auto_takes_all_coalitions_where_the_budget_allows_it():
    _, game = made(9)
    assert estimated(game, budget=511).standard_errors is None
    assert game.evaluations == 511
    assert estimated(made(8)[1]).evaluations == 255


def test_auto_takes_a_linear_fit_for_few_coalitions_and_trees_for_more():
    assert torch.equal(estimated(made(10)[1], budget=239).values, regression(made(10)[1], budget=239).values)
    assert torch.equal(estimated(made(10)[1], budget=240).values, tree_proxy(made(10)[1], budget=240).values)


def test_without_scikit_learn_auto_takes_a_linear_fit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert torch.equal(estimated(made(10)[1], budget=240).values, regression(made(10)[1], budget=240).values)


def test_a_budget_grows_until_the_values_are_certain_enough():
    evaluations = []
    for tolerance in (0.5, 0.05, 1e-6):
        payoff, game = made(10)
        found = estimated(game, estimator="regression", tolerance=tolerance)
        assert len(payoff.asked) == found.evaluations
        evaluations.append(found.evaluations)
        if tolerance > 1e-6:
            assert found.standard_errors is not None
            own = torch.eye(10, dtype=torch.bool)
            assert found.standard_errors.norm() <= tolerance * found.values.masked_fill(own, 0).norm()
    assert evaluations == sorted(evaluations)
    assert evaluations[0] < 640 == evaluations[2]


def test_exact_takes_all_coalitions_whatever_the_budget():
    assert estimated(made(6)[1], estimator="exact", budget=5).evaluations == 63


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"estimator": "magic"}, "'magic' is not known"),
        ({"budget": 0}, "budget=0"),
        ({"tolerance": 0.0}, "tolerance=0.0"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object], said: str):
    from tests.checking import unchecked

    with unchecked(), pytest.raises(ApportionError, match=said):
        estimated(made(4)[1], **options)
