"""Agreement with leave-one-out against correlations worked out literally, for tokens and for coarser features."""

from __future__ import annotations

import math
import sys
from functools import cache

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from apportion import ApportionError, Explainer
from apportion.evaluation import Case, Item, LeaveOneOutAgreement, Random
from apportion.evaluation._agreement_with_removal import correlations
from apportion.methods import as_method
from tests.tiny import tiny, tokenizer

TEXT = "The man who owns the dogs"
ITEM = Item(id="a", prompt=TEXT, target="is", contrast="are")


@cache
def explainer() -> Explainer:
    return Explainer(tiny("llama"), tokenizer())


def agreement(method, item=ITEM):
    method = as_method(method) if isinstance(method, str) else method
    case = Case(explainer(), item, methods=[method])
    return case, LeaveOneOutAgreement().of(case, case.attribution(method), method)


def pearson(a, b):
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    both = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return both / math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))


def ranks(a):
    """From 1, with the mean rank for equal numbers."""
    return [sum(y < x for y in a) + (sum(y == x for y in a) + 1) / 2 for x in a]


def kendall(a, b):
    """tau-b: pairs in the same order less pairs in opposite order, of those that either does not tie."""
    same = opposite = tied_a = tied_b = 0
    for i in range(len(a)):
        for j in range(i):
            product = (a[i] - a[j]) * (b[i] - b[j])
            same += product > 0
            opposite += product < 0
            tied_a += a[i] == a[j]
            tied_b += b[i] == b[j]
    pairs = len(a) * (len(a) - 1) / 2
    return (same - opposite) / math.sqrt((pairs - tied_a) * (pairs - tied_b))


def literally(a, b):
    return {"pearson": pearson(a, b), "spearman": pearson(ranks(a), ranks(b)), "kendall": kendall(a, b)}


numbers = st.sampled_from([-3.0, -1.0, 0.0, 0.5, 2.0])


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=8))
def test_correlations_are_those_of_their_definitions(pairs):
    a, b = (list(column) for column in zip(*pairs, strict=True))
    assume(len(set(a)) > 1 and len(set(b)) > 1)
    found = correlations(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64))
    assert found == pytest.approx(literally(a, b), abs=1e-9)


@pytest.mark.parametrize(("a", "b"), [([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]), ([1.0, 2.0], [0.0, 0.0]), ([1.0], [2.0])])
def test_a_correlation_with_a_constant_or_of_one_player_is_not_defined(a, b):
    found = correlations(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64))
    assert all(math.isnan(value) for value in found.values())


def test_numbers_that_are_constant_but_for_rounding_warn_nobody():
    nearly = 1 + torch.tensor([0.0, 1e-15, -1e-15], dtype=torch.float64)
    correlations(nearly, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))


def test_the_measure_compares_with_what_leaving_out_each_token_does():
    case, found = agreement("input-x-gradient")
    scores = case.attribution(as_method("input-x-gradient")).scores.double()[1:].tolist()
    game = case.game(case.players)
    count = len(scores)
    without = game.values(~torch.eye(count, dtype=torch.bool))[:, 0]
    expected = literally(scores, (game.full[0] - without).tolist())
    assert found == pytest.approx({f"loo_{name}": value for name, value in expected.items()}, abs=1e-5)


def test_leave_one_out_agrees_with_itself():
    _, found = agreement("leave-one-out")
    assert found == pytest.approx({"loo_pearson": 1, "loo_spearman": 1, "loo_kendall": 1})


def test_for_coarser_features_these_are_what_is_left_out():
    _, found = agreement("leave-one-out(features='words')")
    assert found == pytest.approx({"loo_pearson": 1, "loo_spearman": 1, "loo_kendall": 1})
    # The words' drops are not the sums of their tokens', so another comparison would not be 1.
    case, found = agreement("banzhaf(features='words')")
    words = case.attribution(as_method("leave-one-out(features='words')")).scores.double()[1:].tolist()
    scores = case.attribution(as_method("banzhaf(features='words')")).scores.double()[1:].tolist()
    expected = literally(scores, words)
    assert found == pytest.approx({f"loo_{name}": value for name, value in expected.items()}, abs=1e-5)


def test_with_one_player_nothing_can_agree():
    _, found = agreement(Random(), Item(id="b", prompt="dog", target="is"))
    assert all(math.isnan(value) for value in found.values())


def test_without_scipy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ApportionError, match=r"apportion\[evaluate\]"):
        correlations(torch.ones(2), torch.ones(2))
