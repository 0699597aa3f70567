"""Comprehensiveness and sufficiency by hand, against their literal twin, and what holds for every ranking."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion import ApportionError
from apportion.evaluation import ComprehensivenessSufficiency, PerturbationCurves, as_measure
from tests.evaluation.played import additive, interacting, measured, played
from tests.reference import literal_evaluation_curves as literal

BOTH = ComprehensivenessSufficiency()


def test_four_features_by_hand():
    # Rationales of 1, 2 and 4 tokens: removed, the target loses 4, 4 + 3 and all 8; alone they leave 4, 1 and 0 out.
    case = played(4, additive([1.0, 4.0, 0.0, 3.0], start=2.0))
    found = measured(ComprehensivenessSufficiency(fractions=(0.25, 0.5, 1.0)), case, [0.1, 0.9, 0.0, 0.5])
    assert found["comprehensiveness"] == pytest.approx((4 + 7 + 8) / 3)
    assert found["sufficiency"] == pytest.approx((4 + 1 + 0) / 3)
    assert found["comprehensiveness_probability"] == pytest.approx((4 + 7 + 8) / 6)
    assert found["sufficiency_probability"] == pytest.approx((4 + 1 + 0) / 6)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=12, unique=True), st.integers(0, 5))
def test_both_are_those_of_the_literal_twin(scores, seed):
    value, players = interacting(len(scores), seed), len(scores)
    sizes = [max(1, round(fraction * players)) for fraction in (0.01, 0.05, 0.1, 0.2, 0.5)]
    found = measured(BOTH, played(players, value), scores)
    assert found["comprehensiveness"] == pytest.approx(literal.comprehensiveness(scores, sizes, value), abs=1e-9)
    assert found["sufficiency"] == pytest.approx(literal.sufficiency(scores, sizes, value), abs=1e-9)


def test_a_rationale_has_at_least_one_feature():
    found = measured(ComprehensivenessSufficiency(fractions=(0.01,)), played(3, additive([1.0, 5.0, 2.0])), [0, 1, 0])
    assert found["comprehensiveness"] == 5
    assert found["sufficiency"] == 3


def test_one_token_is_its_own_rationale():
    found = measured(BOTH, played(1, additive([3.0], start=1.0)), [-0.4])
    assert found["comprehensiveness"] == 3
    assert found["sufficiency"] == 0


def test_equal_shares_are_ordered_at_random():
    fractions = ComprehensivenessSufficiency(fractions=(0.25,))
    value = additive([0.0, 1.0, 2.0, 3.0])
    found = [measured(fractions, played(4, value, seed=seed), [0.5] * 4)["comprehensiveness"] for seed in range(200)]
    assert set(found) == {0, 1, 2, 3}
    assert min(found.count(drop) for drop in set(found)) > 30


def test_without_probabilities_there_are_none_of_theirs():
    found = measured(BOTH, played(3, additive([1.0, 2.0, 3.0]), outputs=1), [1.0, 2.0, 3.0])
    assert math.isnan(found["comprehensiveness_probability"])
    assert math.isnan(found["sufficiency_probability"])
    assert found["comprehensiveness"] == pytest.approx(3.4)


def test_coalitions_are_shared_with_the_curves():
    case = played(10, interacting(10))
    scores = [float(score) for score in range(10)]
    measured(PerturbationCurves(), case, scores)
    before = case.game(case.players).evaluations
    measured(ComprehensivenessSufficiency(fractions=(0.1, 0.2, 0.5)), case, scores)
    measured(ComprehensivenessSufficiency(fractions=(0.1, 0.2, 0.5)), case, [0.0] * 10)
    measured(PerturbationCurves(), case, [0.0] * 10)
    assert case.game(case.players).evaluations <= before + 2 * 9
    measured(BOTH, case, [1.0] * 10)
    again = case.game(case.players).evaluations
    measured(PerturbationCurves(), case, [1.0] * 10)
    assert case.game(case.players).evaluations == again


@pytest.mark.parametrize("fractions", [(), (0.0,), (0.5, 1.5), (-0.1,)])
def test_fractions_that_are_none_are_refused(fractions):
    with pytest.raises(ApportionError, match="give one or more numbers above 0"):
        ComprehensivenessSufficiency(fractions=fractions)


def test_a_name_may_carry_fractions():
    assert as_measure("comprehensiveness-sufficiency(fractions=(0.5,))").fractions == (0.5,)
