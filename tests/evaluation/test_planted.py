"""Planted truth: the cause is the cause, by intervention, and nothing else is; and who finds it."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from apportion import ApportionError, Explainer
from apportion.evaluation._case import Case
from apportion.evaluation.planted import Planted, Puzzle, planted
from apportion.evaluation.planted._planted import TASKS
from apportion.evaluation.planted._space import place_features, word_features
from apportion.evaluation.planted._words import ALARMS, COLOURS, KINDS, MASK, NAMES, NUMBERS, WORDS
from apportion.methods import as_method
from tests.checking import unchecked

ALL = tuple(TASKS)
SHAPLEY = "shapley(budget=40)"
ALONE = tuple(name for name in ALL if name != "twice")
METHODS = ("attnlrp", "cp-lrp", "input-x-gradient", "gradient", "gradient(norm='l1')", "leave-one-out", SHAPLEY)


@cache
def truth(name: str) -> Planted:
    return planted(name)


def targets(own: Planted, puzzles: list[Puzzle]) -> Tensor:
    """The number that each puzzle asks for, read without apportion; their texts are equally long."""
    assert len(puzzles) == len({(puzzle.text, puzzle.answer) for puzzle in puzzles})
    ids = own.processor([puzzle.text for puzzle in puzzles], return_tensors="pt").input_ids
    logits = own.model(input_ids=ids).logits[:, -1]
    answers = logits[range(len(ids)), [WORDS.index(puzzle.answer) for puzzle in puzzles]]
    contrast = puzzles[0].contrast
    return answers if contrast is None else answers - logits[:, WORDS.index(contrast)]


def changed(puzzle: Puzzle, *, causes: bool) -> list[Puzzle]:
    """The puzzle with one word exchanged, for all that could stand there."""
    return [
        puzzle.with_words({i: other})
        for i, place in enumerate(puzzle.places)
        for other in place.others
        if place.cause == causes
    ]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("seed", [0, 5])
def test_changing_a_distractor_leaves_the_target_as_it_is(name, seed):
    own = planted(name, seed=seed)
    for puzzle in own.puzzles(4):
        found = targets(own, [puzzle, *changed(puzzle, causes=False)])
        assert len(found) > 20
        assert_close(found[1:], found[:1].expand(len(found) - 1), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ALL)
def test_changing_all_distractors_at_once_leaves_the_target_as_it_is(name):
    own = truth(name)
    for puzzle in own.puzzles(10):
        others = {i: place.others[i % len(place.others)] for i, place in enumerate(puzzle.places) if not place.cause}
        found = targets(own, [puzzle, puzzle.with_words(others)])
        assert_close(found[1], found[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ALONE)
def test_changing_a_cause_changes_the_target(name):
    own = truth(name)
    for puzzle in own.puzzles(10):
        found = targets(own, [puzzle, *changed(puzzle, causes=True)])
        assert ((found[1:] - found[0]).abs() > 0.1).all()


def test_either_of_two_causes_is_enough():
    own = truth("twice")
    for puzzle in own.puzzles(10):
        first, second = puzzle.causes
        absent = ({first: MASK}, {second: MASK}, {first: MASK, second: MASK})
        found = targets(own, [puzzle, *(puzzle.with_words(words) for words in absent)])
        assert_close(found[1:3], found[:1].expand(2), rtol=0, atol=1e-10)
        assert found[0] - found[3] > 1


@pytest.mark.parametrize("name", ["saturated", "switch", "twice"])
def test_fillers_do_not_matter_even_where_attention_is_spread(name):
    own = planted(name, sharpness=2, steepness=0.5)
    for puzzle in own.puzzles(3):
        found = targets(own, [puzzle, *changed(puzzle, causes=False)])
        assert_close(found[1:], found[:1].expand(len(found) - 1), rtol=0, atol=1e-10)


def answer_by_rule(name: str, words: list[str]) -> str:
    """What a reader of the story would say."""
    if name == "copy":
        return words[-4]
    if name == "lookup":
        return dict(zip(words[:-1:2], words[1:-1:2], strict=True))[words[-1]]
    if name == "compare":
        return "more" if NUMBERS.index(words[0]) > NUMBERS.index(words[-1]) else "less"
    if name == "switch":
        return "alert" if set(words) & set(ALARMS) else "calm"
    (said,) = set(words) & set(NAMES)
    return said


@pytest.mark.parametrize("name", ALL)
def test_the_model_says_what_its_rule_says(name):
    own = truth(name)
    for puzzle in own.puzzles(30):
        ids = own.processor(puzzle.text, return_tensors="pt").input_ids
        said = WORDS[int(own.model(input_ids=ids).logits[0, -1].argmax())]
        assert said == answer_by_rule(name, puzzle.text.split()) == puzzle.answer


def test_without_an_alarm_the_model_says_calm():
    own = truth("switch")
    for puzzle in own.puzzles(5):
        quiet = puzzle.with_words(dict.fromkeys(puzzle.causes, "the"))
        assert targets(own, [quiet]) < 0


@pytest.mark.parametrize("name", ALL)
def test_the_truth_is_where_the_causes_stand(name):
    own = truth(name)
    for puzzle, item in zip(own.puzzles(8), own.items(8), strict=True):
        assert item.prompt == puzzle.text
        assert [item.prompt[a:b] for a, b in item.truth] == [puzzle.places[i].word for i in puzzle.causes]
        case = Case(own.engine, item)
        assert case.truth.nonzero().flatten().tolist() == list(puzzle.causes)
        assert case.correct
        assert case.masker.name == "replace(mask)"


def test_all_causes_of_a_lookup_are_planted():
    for puzzle in truth("lookup").puzzles(8):
        words = [puzzle.places[i].word for i in puzzle.causes]
        assert words == [puzzle.places[-1].word, puzzle.answer, puzzle.places[-1].word]
        assert puzzle.answer in COLOURS


def hits(name: str, methods: tuple[str, ...] = METHODS, count: int = 4, **strengths: float) -> dict[str, float]:
    """How often a cause has the highest score; a tie with a distractor is no hit."""
    own = planted(name, **strengths) if strengths else truth(name)
    found = dict.fromkeys(methods, 0.0)
    for item in own.items(count):
        case = Case(own.engine, item)
        for method in methods:
            scores = case.ranked(case.attribution(as_method(method))).scores
            found[method] += float(scores[case.truth].max() > scores[~case.truth].max() + 1e-9) / count
    return {method: round(value, 6) for method, value in found.items()}


def test_where_a_neuron_saturates_lrp_finds_the_cause_and_gradients_do_not():
    assert hits("saturated") == {
        "attnlrp": 1,
        "cp-lrp": 1,
        "input-x-gradient": 0,
        "gradient": 0,
        "gradient(norm='l1')": 0,
        "leave-one-out": 1,
        SHAPLEY: 1,
    }


def test_input_x_gradient_finds_the_cause_before_the_neuron_saturates():
    assert hits("saturated", ("input-x-gradient",), steepness=1)["input-x-gradient"] == 1


def test_where_a_key_moves_attention_leave_one_out_finds_the_cause_and_lrp_does_not():
    found = hits("switch")
    assert found["attnlrp"] == found["cp-lrp"] == found["input-x-gradient"] == 0
    assert found["leave-one-out"] == found[SHAPLEY] == 1


def test_attnlrp_finds_the_key_before_attention_saturates_and_cp_lrp_never_does():
    found = hits("switch", ("attnlrp", "cp-lrp"), sharpness=6)
    assert found == {"attnlrp": 1, "cp-lrp": 0}


def test_where_either_cause_is_enough_leave_one_out_finds_none_and_the_others_do():
    found = hits("twice")
    assert found["leave-one-out"] == 0
    assert found["attnlrp"] == found["cp-lrp"] == found[SHAPLEY] == found["input-x-gradient"] == 1


@pytest.mark.parametrize("name", ["copy", "lookup", "compare"])
def test_where_nothing_is_in_the_way_lrp_and_leave_one_out_find_the_cause(name):
    found = hits(name, ("attnlrp", "cp-lrp", "input-x-gradient", "leave-one-out", SHAPLEY), count=3)
    assert set(found.values()) == {1}


def test_lookup_through_values_finds_one_cause_of_three():
    own = truth("lookup")
    for item in own.items(3):
        case = Case(own.engine, item)
        scores = {m: case.ranked(case.attribution(as_method(m))).scores for m in ("cp-lrp", "leave-one-out")}
        assert int((scores["cp-lrp"].abs() > 1e-6).sum()) == 1
        assert ((scores["leave-one-out"] > 1) == case.truth).all()


@pytest.mark.parametrize("name", ALL)
def test_methods_that_take_layers_apart_serve_the_model(name):
    own = truth(name)
    explainer = Explainer(own.model, own.processor)
    (item,) = own.items(1)
    for method in ("alti", "alti-logit", "decompx", "globenc", "rollout", "value-zeroing"):
        scores = explainer.explain(item.prompt, target=item.target, method=method, progress=False).scores
        assert scores.isfinite().all()


def test_evaluate_takes_the_items(tmp_path):
    own = truth("switch")
    found = Explainer(own.model, own.processor).evaluate(
        own.items(3), methods=["cp-lrp", "leave-one-out"], measures=["ground-truth"], path=tmp_path, progress=False
    )
    values = {(row.item, row.method): row.values["pg1"] for row in found}
    assert {values[f"planted-switch-{k}", "leave-one-out"] for k in range(3)} == {1.0}
    assert {values[f"planted-switch-{k}", "cp-lrp"] for k in range(3)} == {0.0}


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_gives_the_same_model_and_texts(name):
    one, other, third = planted(name, seed=3), planted(name, seed=3), planted(name, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True))
    assert list(one.items(5)) == list(other.items(7))[:5]
    assert list(one.items(5)) != list(third.items(5))
    assert not torch.equal(one.model.lm_head.weight, third.model.lm_head.weight)
    assert len({item.id for item in one.items(5)}) == 5


def test_all_words_have_embeddings_of_one_length():
    embeddings = word_features()[:, None] + place_features()
    assert_close(embeddings.square().sum(-1), torch.full(embeddings.shape[:2], 4.0, dtype=torch.float64))
    assert sorted(word for words in KINDS for word in words) == sorted(WORDS)


def test_bad_requests_are_refused():
    with unchecked(), pytest.raises(ApportionError, match="no planted model 'toggle'; use one of 'copy'"):
        planted("toggle")
    with pytest.raises(ApportionError, match="sharpness=0 is not possible"):
        planted("copy", sharpness=0)
    with pytest.raises(ApportionError, match=r"steepness=-1\.0 is not possible"):
        planted("copy", steepness=-1.0)
