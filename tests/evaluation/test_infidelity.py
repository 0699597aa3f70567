"""Infidelity by hand, against its literal twin and numpy's and scipy's fits, and what holds for every explanation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from apportion import ApportionError
from apportion.evaluation import Infidelity
from apportion.evaluation._infidelity import sets_of
from apportion.methods import as_method
from tests.evaluation.played import additive, explainer, interacting, measured, played, shared
from tests.reference import literal_evaluation_curves as literal

INFIDELITY = Infidelity()


def test_three_features_by_hand():
    # One of three is removed: drops 4, 2, 0; shares 1, 0, 2 have r = (1·0 + 0·... ) with means 2 and 1:
    # Σ(s−1)(d−2) = 0·2 + (−1)·0 + 1·(−2) = −2, Σ(s−1)² = 2, Σ(d−2)² = 8, so r = −½.
    case = played(3, additive([4.0, 2.0, 0.0]))
    wrong = measured(Infidelity(removed=0.34), case, [1.0, 0.0, 2.0])
    assert wrong["infidelity_correlation"] == pytest.approx(-0.5)
    assert wrong["infidelity"] == 1
    # Turned round, r = ½ and a quarter of the variance is explained.
    right = measured(Infidelity(removed=0.34), case, [-1.0, 0.0, -2.0])
    assert right["infidelity_correlation"] == pytest.approx(0.5)
    assert right["infidelity"] == pytest.approx(0.75)


@given(
    st.lists(st.integers(-20, 20), min_size=2, max_size=8, unique=True), st.integers(0, 5), st.sampled_from([0.25, 0.5])
)
def test_infidelity_is_the_literal_one_under_the_best_scale_and_offset(shares, seed, removed):
    scores, players = [share / 7 for share in shares], len(shares)
    value = interacting(players, seed)
    sums, drops = literal.sums_and_drops(scores, max(1, round(players * removed)), value)
    found = measured(Infidelity(removed=removed, samples=100), played(players, value), scores)
    correlation = literal.correlation(sums, drops)
    assert found["infidelity_correlation"] == pytest.approx(correlation, abs=1e-8)
    assert correlation == pytest.approx(scipy.stats.pearsonr(sums, drops).statistic, abs=1e-8)
    design = np.stack([sums, np.ones(len(sums))], 1)
    bounds = [0, -np.inf], [np.inf, np.inf]
    scale, offset = scipy.optimize.lsq_linear(design, np.array(drops), bounds=bounds, tol=1e-14).x
    assert found["infidelity"] == pytest.approx(literal.infidelity(sums, drops, scale, offset), abs=1e-6)


def test_shares_that_are_the_drops_in_any_unit_are_faithful():
    weights = [0.5, -1.0, 2.0, 0.1, -0.3, 0.0]
    case = played(6, additive(weights, start=3.0))
    for scale in (1.0, 0.001, 40.0):
        found = measured(INFIDELITY, case, [scale * weight for weight in weights])
        assert found["infidelity"] == pytest.approx(0, abs=1e-12)
        assert found["infidelity_correlation"] == pytest.approx(1)


def test_shares_turned_round_are_as_bad_as_none():
    weights = [0.5, -1.0, 2.0, 0.1]
    found = measured(INFIDELITY, played(4, additive(weights)), [-weight for weight in weights])
    assert found["infidelity"] == 1
    assert found["infidelity_correlation"] == pytest.approx(-1)


@pytest.mark.parametrize("share", [0.0, 0.1, -7.3])
def test_equal_shares_say_nothing(share):
    found = measured(INFIDELITY, played(7, interacting(7)), [share] * 7)
    assert found["infidelity"] == 1
    assert math.isnan(found["infidelity_correlation"])


@pytest.mark.parametrize(("players", "weights"), [(1, [3.0]), (4, [0.7, 0.7, 0.7, 0.7]), (3, [0.0, 0.0, 0.0])])
def test_equal_drops_leave_nothing_to_explain(players, weights):
    found = measured(INFIDELITY, played(players, additive(weights)), [float(i) for i in range(players)])
    assert math.isnan(found["infidelity"])
    assert math.isnan(found["infidelity_correlation"])


def test_all_methods_see_the_same_sets():
    case = played(14, interacting(14))
    measured(INFIDELITY, case, [float(i) for i in range(14)])
    before = case.game(case.players).evaluations
    assert 80 < before <= 101
    other = replace(shared(case, [float(i % 3) for i in range(14)]), method="gim")
    INFIDELITY.of(case, other, as_method("gim"))
    assert case.game(case.players).evaluations == before


def test_each_set_is_taken_once_where_there_are_few():
    sets = sets_of(5, 0.5, 100, np.random.default_rng(0))
    assert len(sets) == 10
    assert len(sets.unique(dim=0)) == 10
    assert sets.sum(1).tolist() == [2] * 10


def test_sets_are_of_one_size_and_leave_no_feature_out():
    sets = sets_of(20, 0.3, 2000, np.random.default_rng(0))
    assert sets.sum(1).tolist() == [6] * 2000
    share = sets.double().mean(0)
    assert (share - 0.3).abs().max() < 0.05
    # Pairs are together as often as chance has it.
    both = (sets.T.double() @ sets.double() / 2000)[~torch.eye(20, dtype=torch.bool)]
    assert (both - 6 * 5 / (20 * 19)).abs().max() < 0.04


def test_a_sample_estimates_what_all_sets_give():
    value, scores = interacting(12), [float((7 * i) % 12) for i in range(12)]
    every = measured(Infidelity(samples=924), played(12, value), scores)
    some = [measured(Infidelity(samples=200), played(12, value, seed=seed), scores) for seed in range(20)]
    errors = [one["infidelity_correlation"] - every["infidelity_correlation"] for one in some]
    assert np.std(errors) < 0.1
    assert abs(np.mean(errors)) < 3 * np.std(errors) / 20**0.5
    assert len(set(errors)) == 20


def test_rows_do_not_depend_on_the_order_of_methods(tmp_path):
    def rows(methods):
        texts, measures = ["The man who owns the dogs sees the cat"], ["infidelity(samples=20)"]
        path = tmp_path / methods[0]
        found = explainer().evaluate(texts, methods=methods, measures=measures, path=path, progress=False)
        return {row.method: row.values for row in found}

    first, turned = rows(["attnlrp", "gradient"]), rows(["gradient", "attnlrp"])
    for method, values in first.items():
        assert values == pytest.approx(turned[method], rel=1e-4)


@pytest.mark.parametrize("options", [{"samples": 1}, {"removed": 0.0}, {"removed": 1.0}])
def test_options_that_leave_nothing_to_compare_are_refused(options):
    with pytest.raises(ApportionError, match="is not possible"):
        Infidelity(**options)
