"""The estimators: each against its definition, and what holds for every game."""

from __future__ import annotations

import math
import sys
from contextlib import suppress
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import Tensor
from torch.testing import assert_close

from apportion import ApportionError, NonFiniteRelevance
from apportion.core._ranks import rank_correlation
from apportion.games import (
    CooperativeGame,
    exact_banzhaf,
    exact_shapley,
    kernel_shap,
    leverage_shap,
    permutation_shapley,
    sampled_banzhaf,
    sparse_surrogate,
)
from apportion.games.values._coalitions import all_coalitions, permutations
from apportion.games.values._pairs import drawn_by_kernel, drawn_by_leverage
from tests.reference import literal_games as literal

SHAPLEY = {"permutation": permutation_shapley, "kernel": kernel_shap, "leverage": leverage_shap}
REGRESSIONS = {"kernel": (kernel_shap, drawn_by_kernel), "leverage": (leverage_shap, drawn_by_leverage)}
SAMPLED = {**SHAPLEY, "banzhaf": sampled_banzhaf}
ALL = {
    "exact Shapley": exact_shapley,
    "exact Banzhaf": exact_banzhaf,
    **{name: partial(estimator, budget=40) for name, estimator in SAMPLED.items()},
    "surrogate": partial(sparse_surrogate, ablations=40, alpha=1e-9),
}
every = pytest.mark.parametrize("estimator", ALL.values(), ids=ALL)
few = settings(max_examples=25)
exactly = partial(assert_close, rtol=1e-11, atol=1e-11)
games = st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(0, 10**6))


class Table:
    """A payoff that is looked up: random numbers for every coalition."""

    def __init__(self, players: int, outputs: int = 1, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.players = players
        self.values = torch.randn(2**players, outputs, generator=generator, dtype=torch.float64)

    def __call__(self, coalitions: Tensor) -> Tensor:
        return self.values[(coalitions * 2 ** torch.arange(self.players)).sum(1)]

    def output(self, index: int) -> literal.Payoff:
        return lambda members: self.values[sum(2**player for player in members), index].item()


class Smooth:
    """A payoff like a model's: single players, pairs and triples, through a nonlinear function."""

    def __init__(self, players: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.alone = torch.randn(players, 2, generator=generator, dtype=torch.float64)
        self.together = [torch.randperm(players, generator=generator)[: 2 + k % 2] for k in range(3 * players)]
        self.amounts = torch.randn(len(self.together), 2, generator=generator, dtype=torch.float64)

    def __call__(self, coalitions: Tensor) -> Tensor:
        present = coalitions.double()
        total = present @ self.alone
        for members, amount in zip(self.together, self.amounts, strict=True):
            total = total + present[:, members].prod(1, keepdim=True) * amount
        return 4 * torch.tanh(total / 4)


def by_output(players: int, outputs: int, definition, table: Table) -> Tensor:
    found = [definition(players, table.output(output)) for output in range(outputs)]
    return torch.tensor(found, dtype=torch.float64).T


def sets(coalitions: Tensor) -> list[frozenset[int]]:
    return [frozenset(row.nonzero().flatten().tolist()) for row in coalitions]


@few
@given(games)
def test_exact_values_are_those_of_the_definition(case):
    players, outputs, seed = case
    table = Table(players, outputs, seed)
    shapley = exact_shapley(CooperativeGame(players, table))
    exactly(shapley.values, by_output(players, outputs, literal.shapley_by_subsets, table))
    if players <= 5:
        exactly(shapley.values, by_output(players, outputs, literal.shapley_by_orders, table))
    banzhaf = exact_banzhaf(CooperativeGame(players, table))
    exactly(banzhaf.values, by_output(players, outputs, literal.banzhaf, table))
    for found in (shapley, banzhaf):
        assert found.standard_errors is None
        assert found.evaluations == 2**players
        assert_close(found.empty, table.values[0], rtol=0, atol=0)
        assert_close(found.full, table.values[-1], rtol=0, atol=0)


@few
@given(games, st.integers(0, 100))
def test_shapley_values_sum_to_what_all_are_paid_beyond_none(case, seed):
    players, outputs, table_seed = case
    table = Table(players, outputs, table_seed)
    for estimator in (exact_shapley, *(partial(e, budget=30, seed=seed) for e in SHAPLEY.values())):
        found = estimator(CooperativeGame(players, table))
        assert_close(found.values.sum(0), table.values[-1] - table.values[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("players", [30, 61])
@pytest.mark.parametrize("estimator", SHAPLEY.values(), ids=SHAPLEY)
def test_they_sum_exactly_also_for_many_players_and_large_payoffs(estimator, players):
    payoff = Smooth(players)
    found = estimator(CooperativeGame(players, lambda coalitions: 1e3 + payoff(coalitions)), budget=400)
    assert_close(found.values.sum(0), found.full - found.empty, rtol=0, atol=1e-10)
    assert found.evaluations <= 400


@few
@given(games)
def test_a_player_that_adds_nothing_gets_nothing(case):
    players, outputs, seed = case
    others = Table(players, outputs, seed)
    added = CooperativeGame(players + 1, lambda coalitions: others(coalitions[:, :-1]))
    alone = CooperativeGame(players, others)
    for estimator in (exact_shapley, exact_banzhaf):
        found = estimator(added).values
        assert found[-1].tolist() == [0.0] * outputs
        exactly(found[:-1], estimator(alone).values)
    found = permutation_shapley(added, budget=30).values
    assert float(found[-1].abs().max()) < 1e-12


@few
@given(games, st.randoms())
def test_players_are_interchangeable(case, random):
    players, outputs, seed = case
    table, order = Table(players, outputs, seed), list(range(players))
    random.shuffle(order)
    renamed = CooperativeGame(players, lambda coalitions: table(coalitions[:, order]))
    for estimator in (exact_shapley, exact_banzhaf):
        exactly(estimator(renamed).values[order], estimator(CooperativeGame(players, table)).values)


@every
def test_values_are_linear_in_the_payoff(estimator):
    first, second = Table(5, 2, 1), Table(5, 2, 2)
    mixed = estimator(CooperativeGame(5, lambda coalitions: 3 * first(coalitions) - 2 * second(coalitions) + 7))
    expected = 3 * estimator(CooperativeGame(5, first)).values - 2 * estimator(CooperativeGame(5, second)).values
    assert_close(mixed.values, expected, rtol=1e-6, atol=1e-6)


@every
def test_a_vector_is_paid_as_each_of_its_outputs_alone(estimator):
    payoff = Table(5, 3, 4)
    together = estimator(CooperativeGame(5, payoff))
    for output in range(3):
        alone = estimator(
            CooperativeGame(5, lambda coalitions, output=output: payoff(coalitions)[:, output : output + 1])
        )
        exactly(together.values[:, output : output + 1], alone.values)
        if together.standard_errors is not None:
            exactly(together.standard_errors[:, output : output + 1], alone.standard_errors)
    assert (together.evaluations, together.full.shape) == (alone.evaluations, (3,))


@pytest.mark.parametrize("players", range(2, 10))
@pytest.mark.parametrize("estimator", [kernel_shap, leverage_shap])
def test_a_regression_on_all_coalitions_is_exact(estimator, players):
    table = Table(players, 2)
    found = estimator(CooperativeGame(players, table, budget=2**players), budget=2**players)
    exactly(found.values, exact_shapley(CooperativeGame(players, table)).values)
    assert found.evaluations == 2**players
    assert found.standard_errors.tolist() == [[0.0, 0.0]] * players


@pytest.mark.parametrize("players", [6, 7])
@pytest.mark.parametrize("budget", [24, 40])
@pytest.mark.parametrize("name", REGRESSIONS)
def test_a_regression_is_the_constrained_fit_to_the_coalitions_drawn(name, budget, players):
    estimator, draw = REGRESSIONS[name]
    table = Table(players, seed=3)
    pairs = draw(players, (budget - 2) // 2, torch.Generator().manual_seed(5))
    coalitions = sets(torch.cat([pairs.coalitions, ~pairs.coalitions]))
    expected = literal.constrained_regression(coalitions, pairs.weights.tolist() * 2, players, table.output(0))
    found = estimator(CooperativeGame(players, table), budget=budget, seed=5)
    assert_close(found.values[:, 0].tolist(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("players", "pairs"), [(7, 30), (8, 60), (12, 100), (12, 400), (40, 200)])
def test_leverage_draws_every_size_equally_and_weighs_it_as_the_kernel_does(players, pairs):
    drawn = drawn_by_leverage(players, pairs, torch.Generator().manual_seed(0))
    sizes = drawn.coalitions.sum(1)
    assert len(sizes) == pairs == len({*sets(drawn.coalitions), *sets(~drawn.coalitions)}) / 2
    counts = {}
    for size in range(1, players // 2 + 1):
        chosen = sizes == size
        halves = 1 if 2 * size == players else 2
        there_are = math.comb(players, size) * halves // 2
        weight = drawn.weights[chosen].sum().item()
        assert weight == pytest.approx(literal.shapley_kernel(players, size) * there_are / (players - 1))
        if int(chosen.sum()) < there_are:
            counts[size] = int(chosen.sum()) * 2 / halves
    if counts:
        assert max(counts.values()) - min(counts.values()) <= 2


def test_kernel_draws_in_proportion_to_the_kernel_and_counts_duplicates():
    drawn = drawn_by_kernel(9, 3000, torch.Generator().manual_seed(0))
    assert len(drawn.coalitions) == 2**8 - 1  # enough for all
    drawn = drawn_by_kernel(12, 200, torch.Generator().manual_seed(0))
    sizes = drawn.coalitions.sum(1)
    assert [int((sizes == size).sum()) for size in (1,)] == [12]
    assert drawn.drawn.tolist() == [1.0, 0.0]
    assert len(set(sets(drawn.coalitions))) < 200
    many = drawn_by_kernel(40, 20_000, torch.Generator().manual_seed(0))
    rest = many.coalitions[many.strata == len(many.drawn) - 1].sum(1)
    kernel = {size: 1 / (size * (40 - size)) * (0.5 if size == 20 else 1) for size in range(int(rest.min()), 21)}
    for size, share in kernel.items():
        expected = len(rest) * share / sum(kernel.values())
        assert abs(int((rest == size).sum()) - expected) < 5 * expected**0.5
    total = sum(literal.shapley_kernel(12, size) * math.comb(12, size) for size in range(1, 12)) / 11
    assert 2 * drawn.weights.sum().item() == pytest.approx(total)


def test_permutations_are_the_mean_over_orders_and_their_reverses():
    table = Table(5, seed=8)
    orders = permutations(5, 8, torch.Generator().manual_seed(2)).tolist()
    expected = literal.mean_over_orders([*orders, *[order[::-1] for order in orders]], table.output(0))
    found = permutation_shapley(CooperativeGame(5, table), budget=66, seed=2)
    assert_close(found.values[:, 0].tolist(), expected, rtol=1e-12, atol=1e-12)
    pairs = [literal.mean_over_orders([order, order[::-1]], table.output(0)) for order in orders]
    spread = torch.tensor(pairs, dtype=torch.float64).std(0) / 8**0.5
    exactly(found.standard_errors[:, 0], spread)


def test_sampled_banzhaf_reuses_every_coalition():
    table = Table(5, seed=9)
    drawn = torch.rand(38, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64) < 0.5
    expected = literal.maximum_sample_reuse(sets(drawn), 5, table.output(0))
    found = sampled_banzhaf(CooperativeGame(5, table), budget=40, seed=2)
    assert_close(found.values[:, 0].tolist(), expected, rtol=1e-12, atol=1e-12)
    payoffs = table(drawn)[:, 0]
    for player in range(5):
        groups = payoffs[drawn[:, player]], payoffs[~drawn[:, player]]
        error = sum(group.var() / len(group) for group in groups) ** 0.5
        assert found.standard_errors[player, 0].item() == pytest.approx(error.item())


@pytest.mark.parametrize("name", SAMPLED)
def test_estimates_converge_without_bias_and_know_their_errors(name):
    estimator, runs = SAMPLED[name], 40
    payoff, players = Smooth(10, seed=1), 10
    game = CooperativeGame(players, payoff)  # shared, so that each coalition is evaluated once for all runs
    truth = (exact_banzhaf if name == "banzhaf" else exact_shapley)(game).values
    small, large = (200, 800) if name == "permutation" else (100, 400)
    mean_square = {}
    for budget in (small, large):
        found = [estimator(game, budget=budget, seed=seed) for seed in range(runs)]
        wrong = torch.stack([one.values - truth for one in found])
        errors = torch.stack([one.standard_errors for one in found])
        mean_square[budget] = float((wrong**2).mean())
        bias = wrong.mean(0) / (wrong.std(0) / runs**0.5)
        assert float(bias.abs().max()) < 5
        relative = wrong / errors
        assert 0.8 < float((relative**2).mean().sqrt()) < 1.3
        assert float((relative.abs() < 1.96).double().mean()) > 0.88
    assert mean_square[large] < mean_square[small] / 2.5


def test_standard_errors_are_left_out_where_there_is_too_little_to_tell():
    table = Table(6)
    assert permutation_shapley(CooperativeGame(6, table), budget=72).standard_errors is None  # 7 pairs of orders
    assert permutation_shapley(CooperativeGame(6, table), budget=82).standard_errors is not None
    errors = []
    for seed in range(20):
        with suppress(ApportionError):  # that the players cannot be told apart
            errors.append(kernel_shap(CooperativeGame(14, Smooth(14)), budget=44, seed=seed).standard_errors)
    known = [error for error in errors if error is not None]
    assert 0 < len(known) < len(errors)
    assert all(float(error.min()) > 1e-3 for error in known)
    # Here a value hangs on one coalition that was drawn twice, whose two draws agree.
    assert kernel_shap(CooperativeGame(14, Smooth(14)), budget=64, seed=9).standard_errors is None


@pytest.mark.parametrize("name", SAMPLED)
def test_a_seed_decides_what_is_drawn(name):
    first, again, other = (SAMPLED[name](CooperativeGame(8, Table(8)), budget=60, seed=seed) for seed in (1, 1, 2))
    assert_close(first.values, again.values, rtol=0, atol=0)
    assert float((first.values - other.values).abs().max()) > 1e-3


@every
def test_a_payoff_that_is_not_finite_is_refused(estimator):
    with pytest.raises(NonFiniteRelevance, match=r"^the values of 5 of 5 players are NaN or infinite[^\n]*$"):
        estimator(CooperativeGame(5, lambda coalitions: Table(5)(coalitions) + torch.nan))


def test_too_many_players_or_too_small_a_budget_is_refused_before_anything_is_evaluated():
    def never(coalitions: Tensor) -> Tensor:
        raise AssertionError

    for estimator in (exact_shapley, exact_banzhaf):
        with pytest.raises(ApportionError, match=r"^exact values of 17 players take 2\^17 coalitions[^\n]*$"):
            estimator(CooperativeGame(17, never))
    with pytest.raises(ApportionError, match=r"^budget=19 is too small for the orders of 10 [^\n]*at least 20[^\n]*$"):
        permutation_shapley(CooperativeGame(10, never), budget=19)
    for estimator in (kernel_shap, leverage_shap):
        with pytest.raises(ApportionError, match=r"^budget=29 is too small for a regression[^\n]*at least 30[^\n]*$"):
            estimator(CooperativeGame(10, never), budget=29)
    with pytest.raises(ApportionError, match=r"^budget=4 is too small: not every player[^\n]*$"):
        sampled_banzhaf(CooperativeGame(10, never), budget=4)
    with pytest.raises(ApportionError, match=r"^ablations=6 is too small: some of the 10 players[^\n]*$"):
        sparse_surrogate(CooperativeGame(10, never), ablations=6)


def test_coalitions_that_do_not_tell_players_apart_are_refused():
    with pytest.raises(ApportionError, match=r"^[^\n]*do not tell the 20 players apart; give 120 or more\.$"):
        kernel_shap(CooperativeGame(20, Smooth(20)), budget=60, seed=9)


@pytest.mark.parametrize("alpha", [0.001, 0.03])
def test_the_surrogate_is_the_lasso_of_its_ablations(alpha):
    table = Table(5, seed=6)
    drawn = torch.rand(40, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64) < 0.5
    present = drawn.double()
    scaled = (present - present.mean(0)) / present.std(0, correction=0)
    weights = literal.lasso(scaled.T.tolist(), (table(drawn)[:, 0] / 3).tolist(), alpha, rounds=60)
    found = sparse_surrogate(CooperativeGame(5, table), ablations=40, alpha=alpha, scale=3.0, seed=3)
    expected = 3 * torch.tensor(weights, dtype=torch.float64) / present.std(0, correction=0)
    assert_close(found.values[:, 0], expected, rtol=1e-4, atol=1e-5)
    assert int((found.values == 0).sum()) == weights.count(0.0) == {0.001: 0, 0.03: 3}[alpha]
    predicted = found.intercept + present @ found.values
    assert predicted.mean().item() == pytest.approx(table(drawn).mean().item())


def test_a_surrogate_finds_the_few_players_that_count_and_predicts_what_it_has_not_seen():
    def sparse(coalitions: Tensor) -> Tensor:
        present = coalitions.double()
        return torch.stack([2 * present[:, 3] - 5 * present[:, 17], present[:, 3], torch.ones(len(present))], 1)

    found = sparse_surrogate(CooperativeGame(20, sparse), ablations=64, alpha=0.1)
    assert found.values.abs().gt(0).nonzero().tolist() == [[3, 0], [3, 1], [17, 0]]
    assert found.values[17, 0].item() == pytest.approx(-5 + 2 * 0.1, abs=0.1)  # LASSO takes α / spread, about 2α
    assert found.agreement[0].item() > 0.9
    assert bool(found.agreement[2].isnan())
    noise = torch.Generator().manual_seed(0)
    nothing = sparse_surrogate(
        CooperativeGame(20, lambda c: torch.randn(len(c), 1, generator=noise, dtype=torch.float64)),
        ablations=64,
        alpha=0.01,
    )
    assert nothing.agreement.item() < 0.4


def test_the_rank_correlation_is_spearmans():
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(0, 6, (30, 3), generator=generator).double()  # with ties
    b = a + torch.randint(0, 9, (30, 3), generator=generator).double()
    expected = [spearmanr(a[:, k].numpy(), b[:, k].numpy()).statistic for k in range(3)]
    assert rank_correlation(a, b).tolist() == pytest.approx(expected)


def test_a_surrogate_without_scikit_learn_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(ApportionError, match=r"^[^\n]*pip install 'apportion\[games\]'\.$"):
        sparse_surrogate(CooperativeGame(4, Table(4)), ablations=32)


def test_all_coalitions_are_in_the_order_of_their_numbers():
    assert all_coalitions(2).tolist() == [[False, False], [True, False], [False, True], [True, True]]
