"""Questions: the answer stands where it is said to, and a model is asked for exactly its tokens."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from functools import cache
from itertools import islice
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import apportion as ap
from apportion import ApportionError, Explainer, Span
from apportion.evaluation import Case
from apportion.evaluation.questions import WORDING, SpanQuestion, items_of, questions, squad
from apportion.evaluation.questions._generated import MOST_FACTS
from apportion.evaluation.questions._words import THEMES
from tests.checking import unchecked
from tests.reference.literal_questions import answers, candidates
from tests.tiny import build, tiny, tokenizer

MANY = tuple(questions(seed=3, count=3000))
TOLD = SpanQuestion(
    id="told",
    context="Anna lives in Oslo. Tom lives in Paris.",
    question="Which city does Anna live in?",
    regions=((14, 18),),
    opening="Anna lives in",
    others=("Paris",),
)


@cache
def words(*left_out: str) -> PreTrainedTokenizerFast:
    """A tokenizer with the words of generated questions as tokens, but for some that it must spell."""
    known = {w for q in MANY for w in re.findall(r"\w+", f"{q.context} {q.question}")} | {"Read", "Text", "Answer"}
    letters = [chr(c) for c in (*range(65, 91), *range(97, 123))]
    pieces = ["<unk>", "<pad>", *(f"▁{w}" for w in sorted(known - set(left_out))), "▁", *letters, *".?:,\n"]
    raw = Tokenizer(models.Unigram([(piece, -2.0 if len(piece) > 2 else -9.0) for piece in pieces], unk_id=0))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    raw.decoder = decoders.Metaspace(prepend_scheme="always")
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", pad_token="<pad>")


@cache
def explainer(name: str = "llama", *left_out: str) -> Explainer:
    sizes = {"n_positions": 256} if name == "t5" else {"max_position_embeddings": 256}
    return Explainer(build(name, vocab_size=512, **sizes), words(*left_out))


# Generated questions


def test_answers_stand_where_they_are_said_to():
    for q in MANY:
        assert list(q.regions) == answers(q.context, q.question), q


def test_every_other_sentence_offers_another_answer_of_the_same_kind():
    for q in MANY:
        offered = candidates(q.context, q.question)
        assert sorted(offered) == sorted([q.answer, *q.others])
        assert len(set(offered)) == q.groups["facts"]
        assert offered.index(q.answer) == q.groups["place"] - 1


def test_an_answer_is_said_once_and_not_in_the_question():
    for q in MANY:
        assert re.findall(r"\w+", q.context).count(q.answer) == 1
        assert q.answer not in re.findall(r"\w+", f"{q.question} {q.opening}")


def test_the_opening_is_the_beginning_of_the_answer_s_own_statement():
    for q in MANY:
        if q.groups["asks"] == "subject":
            assert q.opening == ""
            continue
        before = q.context[: q.regions[0][0]].rsplit(". ", 1)[-1].rstrip()
        subject = re.match(r"(The )?\w+ ", before)
        assert subject is not None
        assert q.opening.startswith(subject[0])
        assert before.endswith(q.opening.removeprefix(subject[0]))


def test_no_two_are_the_same():
    assert len({(q.context, q.question) for q in MANY}) == len({q.id for q in MANY}) == len(MANY)


def test_a_seed_gives_the_same_questions_again_and_another_seed_others():
    first = list(questions(seed=5, count=50))
    assert first == list(questions(seed=5, count=50)) == list(islice(questions(seed=5), 50))
    assert not {q.id for q in first} & {q.id for q in questions(seed=6, count=50)}


def test_facts_answering_places_and_relations_vary():
    facts = Counter(q.groups["facts"] for q in MANY)
    assert set(facts) == set(range(1, MOST_FACTS + 1))
    assert min(facts.values()) > len(MANY) / MOST_FACTS * 0.8
    assert {q.groups["place"] for q in MANY if q.groups["facts"] == 6} == {1, 2, 3, 4, 5, 6}
    assert {q.groups["relation"] for q in MANY} == {r.name for theme in THEMES for r in theme.relations}
    assert {q.groups["asks"] for q in MANY} == {"value", "subject"}
    assert all(q.context.count(".") == q.groups["facts"] for q in MANY)


@pytest.mark.parametrize(("facts", "found"), [(2, {2}), ((1, 5), {1, 5})])
def test_the_number_of_facts_can_be_chosen(facts, found):
    assert {q.groups["facts"] for q in questions(facts=facts, count=40)} == found


@pytest.mark.parametrize("options", [{"facts": 0}, {"facts": 7}, {"facts": ()}, {"facts": "3"}, {"count": 0}])
def test_what_cannot_be_drawn_is_refused_at_once(options):
    with unchecked(), pytest.raises(ApportionError, match="does not fit"):
        questions(**options)


def test_no_word_list_is_too_short_or_repeats_itself():
    for theme in THEMES:
        for values in (theme.subjects, *(relation.values for relation in theme.relations)):
            assert len(set(values)) == len(values) >= MOST_FACTS


# Items


def test_the_prompt_is_the_text_the_question_and_the_answer_s_beginning():
    (item,) = items_of([TOLD], explainer())
    assert item.prompt == (
        "Read the text and answer the question.\nText: Anna lives in Oslo. Tom lives in Paris.\n"
        "Question: Which city does Anna live in?\nAnswer: Anna lives in"
    )
    ((start, end),) = item.truth
    assert item.prompt[start:end] == "Oslo"
    assert item.prompt[:start].endswith("Text: Anna lives in ")


def test_prompt_and_target_are_the_tokens_of_the_whole():
    encode = words().encode
    for k, (q, item) in enumerate(zip(MANY[:200], items_of(MANY[:200], explainer()), strict=True)):
        whole = encode(f"{item.prompt} {q.answer}", add_special_tokens=False)
        assert whole == [*encode(item.prompt, add_special_tokens=False), words().convert_tokens_to_ids(f"▁{q.answer}")]
        if k < 20:
            case = Case(explainer(), item)
            assert case.task.resolved[0][0].output == whole[-1]
            labels = [f.label.strip() for f in case.task.prompts[0].features]
            assert [labels[i] for i in case.truth.nonzero().flatten().tolist()] == [q.answer]


def test_the_model_is_right_where_the_answer_s_first_token_is_the_likeliest():
    found = []
    for item in islice(items_of(MANY, explainer()), 12):
        ids = words().encode(item.prompt, return_tensors="pt")
        with torch.no_grad():
            row = explainer().model(ids).logits[0, -1]
        likeliest = int(row.argmax())
        answer = words().convert_tokens_to_ids(f"▁{item.target.strip()}")
        case = Case(explainer(), item)
        assert case.correct == (likeliest == answer)
        # The same model asked for what it does find likeliest.
        found.append(Case(explainer(), ap.evaluation.Item(id="x", prompt=item.prompt, target=likeliest)).correct)
    assert all(found)


def test_contrasts_are_the_first_tokens_of_the_other_answers():
    three = next(q for q in MANY if q.groups["facts"] == 3)
    (item,) = items_of([three], explainer(), contrast=True)
    assert [c.strip() for c in item.contrast] == list(three.others)
    (alone,) = items_of([next(questions(facts=1))], explainer(), contrast=True)
    assert alone.contrast is None
    row = explainer().model(words().encode(item.prompt, return_tensors="pt")).logits[0, -1].detach()
    at = [words().convert_tokens_to_ids(f"▁{w}") for w in (three.answer, *three.others)]
    case = Case(explainer(), item)
    expected = row[at[0]] - row[at[1:]].mean()
    assert case.task.target_values.values[0][0] == pytest.approx(expected.item(), abs=1e-5)
    assert case.correct == bool(expected > 0)


def test_an_answer_of_several_tokens_is_asked_for_by_its_first_or_whole():
    # "Oslo" is spelled: the space, then its letters.
    spelling = explainer("llama", "Oslo")
    (first,) = items_of([TOLD], spelling)
    (whole,) = items_of([TOLD], spelling, whole=True)
    ids = words("Oslo").convert_tokens_to_ids(["▁", "O", "s", "l", "o"])
    assert Case(spelling, first).task.resolved[0][0].output == ids[0]
    assert isinstance(whole.target, Span)
    assert Case(spelling, whole).task.head.token_ids(whole.target.text) == ids
    assert whole.truth == first.truth


def test_answers_that_begin_alike_are_left_out(caplog):
    both = explainer("llama", "Oslo", "Paris")
    other = SpanQuestion(id="other", context="Tom is old.", question="Who is old?", regions=((0, 3),))
    with caplog.at_level(logging.INFO, logger="apportion"):
        assert [item.id for item in items_of([TOLD, other], both)] == ["other"]
    assert "1 because another answer begins with the same token" in caplog.text
    with pytest.raises(ApportionError, match=r"none of 1 questions fits .* begins with the same token"):
        list(items_of([TOLD], both))


def test_answers_that_the_tokenizer_does_not_know_are_left_out():
    unknown = SpanQuestion(id="u", context="Ømer is old.", question="Who is old?", regions=((0, 4),))
    with pytest.raises(ApportionError, match="1 because the answer is not in the vocabulary"):
        list(items_of([unknown], explainer()))


def test_answers_that_change_the_tokens_before_them_are_left_out():
    raw = Tokenizer(models.WordLevel({"<unk>": 0, "Answer: a": 1, "Answer:": 2, "a": 3, "b": 4}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split("|", "removed")
    merging = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>")
    q = SpanQuestion(id="m", context="a", question="b", regions=((0, 1),))
    with pytest.raises(ApportionError, match="1 because the answer changes the tokens before it"):
        list(items_of([q], Explainer(tiny("llama"), merging), wording="{context}|{question}|Answer:"))


def test_a_decoder_begins_with_the_answer():
    own = explainer("t5")
    (item,) = items_of([TOLD], own)
    assert Case(own, item).task.resolved[0][0].output == words().convert_tokens_to_ids("▁Oslo")
    (whole,) = items_of([TOLD], own, whole=True)
    assert Case(own, whole).task.head.token_ids(whole.target.text) == [words().convert_tokens_to_ids("▁Oslo")]


def test_the_wording_can_be_one_s_own_and_the_truth_moves_with_it():
    wording = "{question} — {context} {{}} Now:"
    (item,) = items_of([TOLD], explainer(), wording=wording)
    assert item.prompt == f"{TOLD.question} — {TOLD.context} {{{{}}}} Now: Anna lives in"
    assert [item.prompt[a:b] for a, b in item.truth] == ["Oslo"]


def test_braces_in_a_text_are_only_text():
    q = SpanQuestion(id="b", context="Tom {question} is old.", question="Who {context}?", regions=((0, 3),))
    (item,) = items_of([q], explainer("llama"), wording="{context} {question} Answer:")
    assert item.prompt == "Tom {question} is old. Who {context}? Answer:"


def test_items_are_made_as_they_are_asked_for():
    asked = []

    def watched():
        for q in MANY:
            asked.append(q.id)
            yield q

    assert [item.id for item in islice(items_of(watched(), explainer()), 3)] == asked
    assert len(asked) == 3


def test_models_and_options_that_do_not_fit_are_refused_at_once():
    with pytest.raises(ApportionError, match="BertForMaskedLM writes no answer"):
        items_of([TOLD], Explainer(tiny("bert"), tokenizer("masked")))
    with pytest.raises(ApportionError, match="need a tokenizer"):
        items_of([TOLD], Explainer(tiny("llama")))
    with pytest.raises(ApportionError, match="choose one"):
        items_of([TOLD], explainer(), whole=True, contrast=True)
    for wording in ("{context}", "{context} {question} {context}", WORDING + " "):
        with pytest.raises(ApportionError, match=r"the wording .* does not fit"):
            items_of([TOLD], explainer(), wording=wording)


# SQuAD

CONTEXT = "The keys were found in Bergen by Ada King in 1842."
VERSION_2 = {
    "version": "v2.0",
    "data": [
        {
            "title": "Keys",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {
                            "id": "q1",
                            "question": " Who found the keys? ",
                            "is_impossible": False,
                            "answers": [
                                {"text": "Ada King", "answer_start": 33},
                                {"text": "Ada", "answer_start": 33},
                                {"text": "Ada King", "answer_start": 33},
                            ],
                        },
                        {
                            "id": "q2",
                            "question": "Who lost them?",
                            "is_impossible": True,
                            "answers": [{"text": "Ada King", "answer_start": 33}],
                        },
                        {
                            "id": "q2b",
                            "question": "Who forgot them?",
                            "is_impossible": True,
                            "answers": [],
                            "plausible_answers": [{"text": "Ada King", "answer_start": 33}],
                        },
                        {
                            "id": "q3",
                            "question": "Where?",
                            "answers": [
                                {"text": "Bergen", "answer_start": 24},
                                {"text": " Bergen", "answer_start": 22},
                            ],
                        },
                        {"id": "q4", "question": "When?", "answers": [{"text": "1842", "answer_start": 0}]},
                    ],
                }
            ],
        },
        {"paragraphs": [{"context": "Øre og år.", "qas": [{"id": 5, "question": "?", "answers": [
            {"text": "år", "answer_start": 7}]}]}]},
    ],
}  # fmt: skip


def written(folder: Any, content: Any) -> Any:
    path = folder / "file.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_squad_gives_every_answer_that_stands_where_it_is_said_to(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="apportion"):
        found = list(squad(written(tmp_path, VERSION_2)))
    assert [q.id for q in found] == ["q1", "q3", "5"]
    assert [q.regions for q in found] == [((33, 41), (33, 36)), ((23, 29),), ((7, 9),)]
    assert [q.answer for q in found] == ["Ada King", "Bergen", "år"]
    assert [dict(q.groups) for q in found] == [{"title": "Keys"}, {"title": "Keys"}, {}]
    assert found[0].question == "Who found the keys?"
    assert found[0].context == CONTEXT
    assert "2 without an answer" in caplog.text
    assert "1 whose answer does not stand" in caplog.text


def test_all_of_squad_s_regions_are_the_truth_and_the_first_is_the_target(tmp_path):
    own = explainer("llama")
    item = next(items_of(squad(written(tmp_path, VERSION_2)), own, whole=True))
    assert [item.prompt[a:b] for a, b in item.truth] == ["Ada King", "Ada"]
    assert item.target == Span(" Ada King")
    case = Case(own, item)
    labels = [f.label for f in case.task.prompts[0].features]
    # The space between the words is a token of its own, and part of neither.
    assert [labels[i] for i in case.truth.nonzero().flatten().tolist()] == [*"Ada", *"King"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not in SQuAD's format: no JSON object"),
        ("[]", "not in SQuAD's format: no JSON object"),
        ('{"data": {}}', "no JSON object with a list 'data'"),
        ('{"data": []}', "no question of .* can be asked: it holds none"),
        ('{"data": [{}]}', r"at data\[0\]: 'paragraphs'"),
        (
            '{"data": [{"paragraphs": [{"context": "a", "qas": [{"question": "b", "answers": '
            '[{"text": "a", "answer_start": 0}]}]}]}]}',
            r"at data\[0\].paragraphs\[0\].qas\[0\]: 'id'",
        ),
        (
            '{"data": [{"paragraphs": [{"context": "a", "qas": [{"id": "1", "question": "b", "answers": []}]}]}]}',
            "can be asked: 1 without an answer",
        ),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, content, message):
    with pytest.raises(ApportionError, match=message) as caught:
        list(squad(written(tmp_path, content)))
    assert "file.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ApportionError, match=r"cannot read .*: No such file"):
        squad(tmp_path / "none.json")


@pytest.mark.real
def test_the_demo_model_answers_most_questions_about_two_facts():
    demo = ap.load("demo")
    items = list(islice(items_of(questions(seed=1, facts=2), demo), 20))
    assert sum(bool(Case(demo, item).correct) for item in items) >= 10
