"""Players: who may be absent, and what never is."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from apportion import ApportionError, Explainer, Feature, Span, Target
from apportion.core._grouping import sentence_groups
from apportion.games import Players, players_of, to_features
from apportion.task._task import AttributionTask
from tests.checking import unchecked
from tests.tiny import tiny, tokenizer

TEXT = "The man who owns the dogs"
KINDS = {"bert": "masked", "bert_classifier": "masked", "t5": "seq2seq"}


@cache
def explainer(name: str = "llama") -> Explainer:
    return Explainer(tiny(name), tokenizer(KINDS.get(name, "causal")))


def task(prompt: Any, *targets: Any, name: str = "llama") -> AttributionTask:
    return AttributionTask(explainer(name).head, explainer(name).prompts(prompt), targets or [Target()])


def labels(players: Players) -> list[str]:
    return [players.features[column].label for column in players.columns]


def always(players: Players) -> list[str]:
    return [feature.label for i, feature in enumerate(players.features) if i not in players.columns]


def test_tokens_play_and_the_template_does_not():
    players = players_of(task(TEXT), 0)
    assert labels(players) == ["The", " man", " who", " own", "s", " the", " dog", "s"]
    assert always(players) == ["<s>"]
    assert players.groups == tuple((i,) for i in range(1, 9))
    assert players.features == task(TEXT).prompts[0].features


def test_words_are_those_of_the_attribution():
    players = players_of(task(TEXT), 0, "words")
    assert players.features == explainer().explain(TEXT, features="words").features
    assert players.groups == ((1,), (2,), (3,), (4, 5), (6,), (7, 8))


def test_only_the_spans_that_are_named_play():
    players = players_of(task(TEXT), 0, {"owner": "man who owns", "last": [7, 8]})
    assert labels(players) == ["owner", "last"]
    assert players.groups == ((2, 3, 4, 5), (7, 8))
    assert always(players) == ["<s>", "The", " the"]
    assert players.features == explainer().explain(TEXT).spans({"owner": "man who owns", "last": [7, 8]}).features


def test_within_a_span_the_template_stays():
    players = players_of(task(TEXT), 0, {"all": [0, 1, 2]})
    assert players.groups == ((1, 2),)
    assert always(players) == ["<s>", " who", " own", "s", " the", " dog", "s"]
    with pytest.raises(ApportionError, match="'begin' holds only tokens that are always present"):
        players_of(task(TEXT), 0, {"begin": [0]})


def test_a_chat_s_template_never_plays():
    chat = [{"role": "user", "content": "the dogs"}, {"role": "assistant", "content": "the cat"}]
    players = players_of(task([chat]), 0, "words")
    assert labels(players) == ["the", " dogs", "the", " cat"]
    assert {"<|user|>", "<|end|>", "<|assistant|>"} == set(always(players))


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_the_explained_answer_and_the_start_of_the_decoder_never_play(name):
    players = players_of(task(TEXT, Span(" is sad cat"), name=name), 0)
    assert "".join(labels(players)) == TEXT
    assert "".join(always(players)) == {"llama": "<s> is sad", "t5": "</s><pad> is sad"}[name]


def test_tokens_that_the_user_gave_to_the_decoder_play():
    given = {"input_ids": torch.tensor([[9, 10, 11]]), "decoder_input_ids": torch.tensor([[12, 13, 14]])}
    players = players_of(task(given, Span((20, 21)), name="t5"), 0)
    assert players.groups == ((0,), (1,), (2,), (4,), (5,))


def test_the_mask_that_is_read_never_plays_but_another_does():
    asked = task("the man [MASK] sad .", name="bert")
    place = asked.prompts[0].ids.index(4)
    players = players_of(asked, 0)
    assert [i for i in range(len(players.features)) if i not in players.columns] == [
        0,
        place,
        len(players.features) - 1,
    ]
    text = "[MASK] man [MASK] sad ."
    masks = [i for i, token in enumerate(explainer("bert").processor(text).input_ids) if token == 4]
    two = players_of(task(text, Target(position=masks[1]), name="bert"), 0)
    assert [i for i in range(len(two.features)) if i not in two.columns] == [0, masks[1], len(two.features) - 1]


@pytest.mark.parametrize(
    ("pieces", "sentences"),
    [
        (["The", " cat", " sat", ".", " The", " dog", "?", " Yes"], ["The cat sat.", " The dog?", " Yes"]),
        (["It", " costs", " 3", ".", "5", " now", "."], ["It costs 3.5 now."]),
        (["Mr", ".", " who", " sat"], ["Mr. who sat"]),
        (['He said "', "no", '."', " Then"], ['He said "no."', " Then"]),
        (["a", " line", "\n", "another", "\n\n", "third"], ["a line\n", "another\n\n", "third"]),
        (["好", "。", "是", "！"], ["好。", "是！"]),
        ([" ", "Oh", "!", " ", "So"], [" Oh! ", "So"]),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(pieces, sentences):
    features = [Feature(label=piece, positions=(i,)) for i, piece in enumerate(pieces)]
    groups = sentence_groups(features)
    assert ["".join(pieces[i] for i in group) for _, group in groups] == sentences


def test_a_sentence_ends_with_the_turn_and_at_the_template():
    features = [
        Feature(label="<s>", template=True),
        Feature(label="Go", turn=0, role="user"),
        Feature(label=" on", turn=1, role="user"),
    ]
    assert [group for _, group in sentence_groups(features)] == [[0], [1], [2]]


def test_sentences_play():
    players = players_of(task("the cat is sad . The dog is old ."), 0, "sentences")
    assert labels(players) == ["the cat is sad .", " The dog is old ."]
    assert always(players) == ["<s>"]


def test_scores_of_what_is_always_present_are_exactly_0():
    players = players_of(task(TEXT), 0, "words")
    values = torch.arange(1.0, 13.0).reshape(6, 2)
    scores = to_features(players, values)
    assert scores.shape == (2, 7)
    assert scores[0].tolist() == [0, 1, 3, 5, 7, 9, 11]
    assert scores[1].tolist() == [0, 2, 4, 6, 8, 10, 12]


def test_who_plays_has_to_be_known_and_to_be_someone():
    known = "'letters' names no parts of a prompt; use 'tokens', 'words', 'sentences'"
    with unchecked(), pytest.raises(ApportionError, match=known):
        players_of(task(TEXT), 0, "letters")
    with pytest.raises(ApportionError, match="so none can be removed"):
        players_of(task(torch.tensor([[2, 2]])), 0)
