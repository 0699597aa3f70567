"""Perturbation curves by hand, against their literal twin, and what holds for every ranking."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from apportion import ApportionError
from apportion.evaluation import Case, Item, PerturbationCurves, Random
from apportion.evaluation._curves import falling, removal_steps, without
from apportion.methods import as_method
from tests.evaluation.played import additive, explainer, interacting, measured, played
from tests.reference import literal_evaluation_curves as literal
from tests.reference import literal_perturbation
from tests.tiny import tiny

CURVES = PerturbationCurves()


def test_three_features_by_hand():
    # 1 + 4 + 2 + 0: MoRF falls 7, 3, 1, 1, LeRF 7, 7, 5, 1.
    case = played(3, additive([4.0, 2.0, 0.0], start=1.0))
    found = measured(PerturbationCurves(steps=3), case, [0.3, 0.2, 0.1])
    assert_close(found["morf"], [7.0, 3.0, 1.0, 1.0])
    assert_close(found["lerf"], [7.0, 7.0, 5.0, 1.0])
    assert found["abpc"] == pytest.approx(((7 + 7) / 2 + 6 + 3 - (5 + 2 + 1)) / 3)
    assert found["abpc_probability"] == pytest.approx(found["abpc"] / 2)


@st.composite
def rankings(draw, most=9):
    players = draw(st.integers(1, most))
    scores = draw(st.lists(st.floats(-3, 3), min_size=players, max_size=players, unique=True))
    return scores, draw(st.integers(0, 5)), draw(st.integers(1, 12))


@given(rankings())
def test_the_area_is_that_of_the_literal_twin(ranking):
    scores, seed, steps = ranking
    value = interacting(len(scores), seed)
    counts = sorted({round(len(scores) * k / steps) for k in range(steps + 1)})
    found = measured(PerturbationCurves(steps=steps), played(len(scores), value), scores)
    assert found["abpc"] == pytest.approx(literal.abpc(scores, counts, value), abs=1e-9)


def test_where_steps_divide_the_features_the_curves_are_those_of_the_literal_twin():
    scores = [0.3, -1.0, 2.0, 0.0, 0.7, 0.1, -0.2, 1.1]
    value, counts = interacting(8), [0, 2, 4, 6, 8]
    found = measured(PerturbationCurves(steps=4), played(8, value), scores)
    order = literal.by_falling_score(scores)
    assert_close(found["morf"], literal.curve(order, counts, value), rtol=1e-12, atol=1e-12)
    assert_close(found["lerf"], literal.curve(order[::-1], counts, value), rtol=1e-12, atol=1e-12)


def test_between_its_points_a_curve_is_straight():
    found = measured(PerturbationCurves(steps=4), played(2, additive([2.0, 4.0])), [0.0, 1.0])
    assert_close(found["morf"], [6.0, 4.0, 2.0, 1.0, 0.0])
    assert_close(found["lerf"], [6.0, 5.0, 4.0, 2.0, 0.0])


def test_no_order_of_an_additive_game_has_a_larger_area_than_its_own():
    weights = [0.5, -1.0, 2.0, 0.1, -0.3]
    case = played(5, additive(weights))
    areas = {
        order: measured(CURVES, case, [float(order[i]) for i in range(5)])["abpc"] for order in permutations(range(5))
    }
    best = max(areas, key=areas.__getitem__)
    assert [best[i] for i in literal.by_falling_score(weights)] == [4, 3, 2, 1, 0]
    assert sorted(areas.values())[-1] > sorted(areas.values())[-2]
    # By symmetry a random order has 0.
    assert sum(areas.values()) == pytest.approx(0, abs=1e-9)
    assert measured(CURVES, case, weights)["abpc"] == areas[best]


def test_a_constant_relevance_has_no_area_on_average():
    value = interacting(6)
    areas = [measured(CURVES, played(6, value, seed=seed), [0.7] * 6)["abpc"] for seed in range(300)]
    assert np.std(areas) > 0.1
    assert abs(np.mean(areas)) < 3 * np.std(areas) / len(areas) ** 0.5


def test_equal_shares_are_ordered_at_random_and_others_are_not():
    orders = [falling(torch.tensor([1.0, 2.0, 1.0, 1.0, 0.0]), np.random.default_rng(seed)) for seed in range(200)]
    assert {order[0] for order in orders} == {1}
    assert {order[4] for order in orders} == {4}
    between = [tuple(order[1:4]) for order in orders]
    assert set(between) == set(permutations([0, 2, 3]))
    assert min(between.count(order) for order in set(between)) > 15


def test_one_token_has_two_points_and_no_area():
    found = measured(CURVES, played(1, additive([3.0], start=1.0)), [0.4])
    assert found["abpc"] == 0
    assert_close(found["morf"], np.linspace(4, 1, 11).tolist())
    assert found["morf"] == found["lerf"]


def test_without_probabilities_there_is_no_area_of_theirs():
    found = measured(CURVES, played(3, additive([1.0, 2.0, 3.0]), outputs=1), [1.0, 2.0, 3.0])
    assert math.isnan(found["abpc_probability"])
    assert found["abpc"] > 0


@pytest.mark.parametrize(
    ("players", "steps", "expected"), [(3, 10, [0, 1, 2, 3]), (20, 4, [0, 5, 10, 15, 20]), (1, 1, [0, 1])]
)
def test_as_much_is_removed_at_each_step(players, steps, expected):
    assert removal_steps(players, steps) == expected
    assert without(list(range(players))[::-1], expected).sum(1).tolist() == [players - count for count in expected]


def test_the_curves_are_the_model_read_without_the_tokens():
    case = Case(explainer(), Item(id="a", prompt="The man who owns the dogs", target=11), masker="delete")
    attribution = case.attribution(as_method("attnlrp"))
    ids = explainer().processor("The man who owns the dogs").input_ids
    value = literal_perturbation.by_deleting(tiny("llama"), ids, len(ids) - 1, 11)
    scores = attribution.scores[1:].tolist()
    found = PerturbationCurves(steps=8).of(case, attribution, as_method("attnlrp"))
    order = literal.by_falling_score(scores)
    players = set(range(1, 9))
    for curve, removed in ((found["morf"], order), (found["lerf"], order[::-1])):
        expected = [value({i + 1 for i in removed[:count]}) for count in range(9)]
        assert_close(curve, expected, rtol=1e-6, atol=1e-6)
    assert len(players) == 8
    assert found["morf"][0] == pytest.approx(attribution.target.value, abs=1e-6)


def test_rows_depend_on_the_seed_alone(tmp_path):
    def rows(methods, seed=0):
        found = explainer().evaluate(
            ["The man who owns the dogs", "the cat and the dog of"],
            methods=methods,
            measures=["perturbation-curves"],
            seed=seed,
            path=tmp_path / f"{len(list(tmp_path.iterdir()))}",
            progress=False,
        )
        return {(row.item, row.method): row.values for row in found}

    def alike(one, other):
        # What else runs in the same batch changes the last digits.
        return all(one[key] == pytest.approx(other[key], rel=1e-5, abs=1e-6) for key in one.keys() & other.keys())

    methods = ["attnlrp", "gradient", "leave-one-out"]
    first = rows(methods)
    assert rows(methods) == first
    assert alike(rows(methods[::-1]), first)
    assert alike(rows(methods[:1]), first)
    other = rows(methods, seed=1)
    assert not alike({("0", "random"): other["0", "random"]}, first)
    assert alike({key: other[key] for key in other if key[1] != "random"}, first)


def test_a_ranking_seen_before_costs_nothing():
    case = played(6, interacting(6))
    measured(CURVES, case, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    before = case.game(case.players).evaluations
    measured(CURVES, case, [10.0, 20.0, 30.0, 40.0, 50.0, 60.0])
    measured(CURVES, case, [6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    assert case.game(case.players).evaluations == before


def test_no_steps_are_refused():
    with pytest.raises(ApportionError, match="steps=0 is not possible"):
        PerturbationCurves(steps=0)


def test_random_orders_are_drawn_anew_for_every_seed():
    case = played(4, interacting(4))
    first, again, other = (case.attribution(Random(seed=seed)).scores for seed in (1, 1, 2))
    assert_close(first, again)
    assert (first != other).any()
