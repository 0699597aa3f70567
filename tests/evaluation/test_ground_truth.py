"""Ground-truth scores against all ways to break ties, and the measure on a model whose cause is known."""

from __future__ import annotations

from functools import cache
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from apportion import ApportionError, Explainer
from apportion.evaluation import (
    Case,
    GroundTruth,
    Item,
    pointing_game,
    probes_needed,
    reciprocal_rank,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
)
from apportion.methods import as_method
from tests.checking import unchecked
from tests.reference import literal_ground_truth as literal
from tests.tiny import tiny, tokenizer

TEXT = "The man who owns the dogs"


@cache
def explainer() -> Explainer:
    return Explainer(tiny("llama"), tokenizer())


@st.composite
def rankings(draw, most=6):
    """Few distinct scores, so that many are equal, and one or more players of the cause."""
    count = draw(st.integers(1, most))
    scores = draw(st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.25, 3.0]), min_size=count, max_size=count))
    truth = draw(st.sets(st.integers(0, count - 1), min_size=1))
    return scores, truth


def tensors(scores, truth):
    mask = torch.zeros(len(scores), dtype=torch.bool)
    mask[list(truth)] = True
    return torch.tensor(scores, dtype=torch.float64), mask


@given(rankings())
def test_each_score_is_the_mean_over_all_ways_to_break_ties(ranking):
    scores, truth = ranking
    given_ = tensors(scores, truth)
    expected = literal.expectation
    assert reciprocal_rank(*given_) == pytest.approx(expected(literal.reciprocal_rank, scores, truth), abs=1e-12)
    for k in (1, 2, 3, 9):
        assert pointing_game(*given_, k) == pytest.approx(expected(literal.pointing_game(k), scores, truth), abs=1e-12)
    assert relevance_rank_accuracy(*given_) == pytest.approx(expected(literal.rank_accuracy, scores, truth), abs=1e-12)
    assert probes_needed(*given_) == pytest.approx(expected(literal.probes, scores, truth), abs=1e-12)
    assert relevance_mass_accuracy(*given_) == pytest.approx(literal.mass_accuracy(scores, truth), abs=1e-12)


@pytest.mark.parametrize("constant", [-1.0, 0.0, 2.5])
def test_a_constant_relevance_scores_as_a_random_order_does(constant):
    truth = {1, 4}
    scores, mask = tensors([constant] * 7, truth)
    every = list(permutations(range(7)))

    def mean(of_order):
        return sum(of_order(order, truth) for order in every) / len(every)

    assert reciprocal_rank(scores, mask) == pytest.approx(mean(literal.reciprocal_rank), abs=1e-12)
    assert pointing_game(scores, mask, 2) == pytest.approx(mean(literal.pointing_game(2)), abs=1e-12)
    assert relevance_rank_accuracy(scores, mask) == pytest.approx(2 / 7, abs=1e-12)
    assert probes_needed(scores, mask) == pytest.approx(mean(literal.probes), abs=1e-12)
    assert relevance_mass_accuracy(scores, mask) == pytest.approx(2 / 7 if constant > 0 else 0, abs=1e-12)


def test_scores_by_hand():
    # Players 1 and 4 are the cause; ranks by falling relevance: 0, 4, 2, 3, 1.
    scores, truth = tensors([4.0, -3.0, 1.0, 0.0, 3.0], {1, 4})
    assert reciprocal_rank(scores, truth) == 1 / 2
    assert [pointing_game(scores, truth, k) for k in (1, 2, 3)] == [0, 1, 1]
    assert relevance_mass_accuracy(scores, truth) == pytest.approx(3 / 8)
    assert relevance_rank_accuracy(scores, truth) == 1 / 2
    assert probes_needed(scores, truth) == 1


def test_a_tie_with_one_other_player_is_worth_the_mean_of_both_ranks():
    scores, truth = tensors([1.0, 1.0, 0.0], {0})
    assert reciprocal_rank(scores, truth) == pytest.approx((1 + 1 / 2) / 2)
    assert pointing_game(scores, truth, 1) == pytest.approx(1 / 2)
    assert probes_needed(scores, truth) == pytest.approx(1 / 2)


def test_ties_below_the_cause_and_negative_relevance_do_not_matter():
    scores, truth = tensors([-1.0, -2.0, -2.0, -2.0], {0})
    assert reciprocal_rank(scores, truth) == 1
    assert probes_needed(scores, truth) == 0
    assert relevance_mass_accuracy(scores, truth) == 0


def test_one_player_is_always_found():
    scores, truth = tensors([-1.0], {0})
    assert reciprocal_rank(scores, truth) == pointing_game(scores, truth, 3) == 1
    assert relevance_rank_accuracy(scores, truth) == 1
    assert probes_needed(scores, truth) == 0


def test_a_long_constant_relevance_scores_as_random_too():
    scores, truth = tensors([0.0] * 4000, range(2000))
    assert pointing_game(scores, truth, 1) == pytest.approx(0.5)
    assert probes_needed(scores, truth) == pytest.approx(2000 / 2001)
    # P(the first hit has rank j) → 2^-j, so the mean of 1/j → ln 2.
    assert reciprocal_rank(scores, truth) == pytest.approx(0.6931, abs=1e-3)


def test_mass_of_numbers_near_the_limits_of_their_type_is_finite():
    for size in (1e-320, 1e308):
        assert relevance_mass_accuracy(*tensors([size, size, size], {0})) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("scores", "truth", "message"), [([1.0, 2.0], set(), "Item.truth"), ([1.0, float("nan")], {0}, "finite")]
)
def test_refuses_what_cannot_be_judged(scores, truth, message):
    with pytest.raises(ApportionError, match=message):
        reciprocal_rank(*tensors(scores, truth))
    with pytest.raises(ApportionError, match=message):
        relevance_rank_accuracy(*tensors(scores, truth))
    with pytest.raises(ApportionError, match="k=0"):
        pointing_game(*tensors([1.0], {0}), 0)


def test_the_measure_scores_the_tokens_of_the_cause_in_its_ranking():
    item = Item(id="a", prompt=TEXT, target="is", contrast="are", truth=((4, 7), (21, 25)))
    method = as_method("input-x-gradient")
    case = Case(explainer(), item, methods=[method])
    attribution = case.attribution(method)
    # The template's <s> never plays; the causes are "man" and both tokens of "dogs".
    labels = [feature.label.strip() for feature in attribution.features]
    assert labels == ["<s>", "The", "man", "who", "own", "s", "the", "dog", "s"]
    scores, truth = attribution.scores.double()[1:], {1, 6, 7}
    found = GroundTruth().of(case, attribution, method)
    order = sorted(range(8), key=lambda i: -scores[i])
    assert found == pytest.approx(
        {
            "mrr": literal.reciprocal_rank(order, truth),
            **{f"pg{k}": literal.pointing_game(k)(order, truth) for k in (1, 2, 3)},
            "rma": literal.mass_accuracy(scores.tolist(), truth),
            "rra": literal.rank_accuracy(order, truth),
            "probes": literal.probes(order, truth),
        }
    )
    assert set(found) == {column.name for column in GroundTruth.columns}


def test_the_measure_ranks_coarser_features_by_the_tokens_they_hold():
    item = Item(id="a", prompt=TEXT, target="is", truth=((21, 24),))
    method = as_method("leave-one-out(features='words')")
    case = Case(explainer(), item, methods=[method])
    attribution = case.attribution(method)
    assert len(case.ranked(attribution).scores) == 6
    words = attribution.scores[-6:].tolist()
    expected = literal.reciprocal_rank(sorted(range(6), key=lambda i: -words[i]), {5})
    assert GroundTruth().of(case, attribution, method)["mrr"] == pytest.approx(expected)


def test_a_run_measures_only_items_that_tell_their_cause(tmp_path):
    items = [Item(id="a", prompt=TEXT, target="is", truth=((4, 7),)), Item(id="b", prompt=TEXT, target="is")]
    with unchecked():
        found = explainer().evaluate(
            items, methods=["gradient"], measures=["ground-truth"], path=tmp_path, progress=False
        )
    by_item = {row.item: row for row in found.rows if row.method == "gradient"}
    assert set(by_item["a"].values) == {"mrr", "pg1", "pg2", "pg3", "rma", "rra", "probes"}
    assert (by_item["b"].values, by_item["b"].refused) == ({}, None)
