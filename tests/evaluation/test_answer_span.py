"""Overlap with an answer span: by hand, by sets, and on a model."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from apportion import ApportionError, Explainer
from apportion.evaluation import AnswerSpan, Case, Item, as_measure
from apportion.evaluation._answer_span import soft_span_iou, span_iou
from apportion.methods import as_method
from tests.tiny import tiny, tokenizer

CONTEXT = "The man sees the dog . who sees the dog"


def tensors(scores, truth):
    mask = torch.zeros(len(scores), dtype=torch.bool)
    mask[list(truth)] = True
    return torch.tensor(scores, dtype=torch.float64), mask


@st.composite
def rankings(draw):
    count = draw(st.integers(1, 8))
    scores = draw(st.lists(st.sampled_from([-2.0, 0.0, 0.25, 1.0, 3.0]), min_size=count, max_size=count))
    return scores, draw(st.sets(st.integers(0, count - 1), min_size=1))


@given(rankings(), st.sampled_from([0.0, 0.2, 0.5]))
def test_overlap_is_that_of_the_two_sets(ranking, threshold):
    scores, truth = ranking
    highest = max([0.0, *scores])
    found = {i for i, score in enumerate(scores) if score > threshold * highest}
    expected = len(found & truth) / len(found | truth)
    assert span_iou(*tensors(scores, truth), threshold=threshold) == pytest.approx(expected)


@given(rankings())
def test_soft_overlap_weights_by_relevance(ranking):
    scores, truth = ranking
    highest = max(scores)
    both = either = 0.0
    for i, score in enumerate(scores):
        r, t = max(score, 0.0) / highest if highest > 0 else 0.0, float(i in truth)
        both, either = both + min(r, t), either + max(r, t)
    assert soft_span_iou(*tensors(scores, truth)) == pytest.approx(both / either)


def test_overlap_by_hand():
    scores, truth = tensors([2.0, 1.0, 4.0, -1.0, 0.0], {2, 3})
    assert span_iou(scores, truth) == 1 / 4
    assert span_iou(scores, truth, threshold=0.5) == 1 / 2
    assert soft_span_iou(scores, truth) == pytest.approx(1 / (1 / 2 + 1 / 4 + 1 + 1))


def test_relevance_that_is_nowhere_positive_overlaps_nothing():
    for constant in (0.0, -1.0):
        assert span_iou(*tensors([constant] * 3, {0})) == soft_span_iou(*tensors([constant] * 3, {0})) == 0


def test_a_constant_positive_relevance_finds_everything():
    assert span_iou(*tensors([2.0] * 5, {0, 1})) == pytest.approx(2 / 5)
    assert soft_span_iou(*tensors([2.0] * 5, {0, 1})) == pytest.approx(2 / 5)


@pytest.mark.parametrize("place", [0, 1, 5])
def test_the_measure_looks_at_the_tokens_of_the_answer(place):
    own, method = Explainer(tiny("llama"), tokenizer()), as_method("input-x-gradient")
    explained = own.explain(CONTEXT, target="man", method=method, progress=False)
    scores = explained.scores.double()[1:].tolist()
    positive = {i for i, score in enumerate(scores) if score > 0}
    # The answer is the token of this place in the ranking; <s> never plays.
    truth = sorted(range(len(scores)), key=lambda i: -scores[i])[place]
    feature = explained.features[truth + 1]
    item = Item(id="a", prompt=CONTEXT, target="man", truth=((feature.start, feature.end),))
    case = Case(own, item, methods=[method])
    measure = as_measure("answer-span")
    found = measure.of(case, case.attribution(method), method)
    assert found["top1"] == float(place == 0)
    assert found["iou"] == pytest.approx(len(positive & {truth}) / len(positive | {truth}))
    assert list(found) == [column.name for column in measure.columns]
    above = {i for i, score in enumerate(scores) if score > 0.9 * max(scores)}
    strict = as_measure("answer-span(threshold=0.9)").of(case, case.attribution(method), method)
    assert strict["iou"] == pytest.approx(len(above & {truth}) / len(above | {truth}))


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_refuses_a_threshold_out_of_range(threshold):
    with pytest.raises(ApportionError, match="threshold"):
        AnswerSpan(threshold=threshold)
