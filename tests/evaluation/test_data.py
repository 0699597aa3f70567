"""Data by name, by file and by list: what is given becomes items one by one, or is refused in one line."""

from __future__ import annotations

import io
import json
import sys
import tracemalloc
from functools import cache
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from apportion import ApportionError, Explainer, Span, Target
from apportion.evaluation import Item, as_data, read_items, write_items
from apportion.evaluation import _data as data_module
from apportion.evaluation.questions import questions
from tests.checking import unchecked
from tests.evaluation.test_questions import VERSION_2
from tests.evaluation.test_questions import explainer as with_words
from tests.tiny import tiny, tokenizer


@cache
def explainer() -> Explainer:
    return Explainer(tiny("llama"), tokenizer())


def items(data: Any, **options: Any) -> list[Item]:
    return list(as_data(data, explainer(), **options))


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


# Lists and streams

CHAT = [{"role": "user", "content": "The old man"}]
IDS = [11, 12, 13]
INPUTS = {"input_ids": torch.tensor([IDS])}
ITEM = Item(id="mine", prompt="the dog", target=" is")


def test_a_list_s_prompts_are_items_in_their_order():
    given = ["the dog", CHAT, IDS, INPUTS, ITEM]
    found = as_data(given, explainer())
    assert isinstance(found, list)
    assert [item.id for item in found] == ["0", "1", "2", "3", "mine"]
    assert [item.prompt for item in found] == ["the dog", CHAT, IDS, INPUTS, "the dog"]
    assert found[-1] is ITEM
    for item in found:
        assert explainer().prepare(item.prompt, [item.asked], []).target_values.values[0][0] is not None


def test_a_stream_is_gone_through_as_items_are_asked_for():
    asked = []

    def endless():
        k = 0
        while True:
            asked.append(k)
            yield f"the dog {k}"
            k += 1

    assert [item.prompt for item in islice(as_data(endless(), explainer()), 3)] == [f"the dog {k}" for k in range(3)]
    assert asked == [0, 1, 2]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (ITEM, "the data are a Item; give a list"),
        (INPUTS, "the data are a dict; give a list"),
        (torch.tensor([IDS]), "the data are a Tensor; give a list"),
        (7, "the data are a int; give a list"),
        (None, "the data are a NoneType; give a list"),
        (IDS, r"one list of token ids, which is a single prompt; put it into a list: \[prompt\]"),
        (CHAT, "one list of messages, which is a single prompt"),
        ([{"text": "the dog", "label": 1}], "number 0 of the data is a dict with 'text', 'label'; give its text"),
    ],
)
def test_what_is_one_prompt_or_none_is_refused(given, message):
    with pytest.raises(ApportionError, match=message) as caught:
        items(given)
    assert "\n" not in str(caught.value)


# Names


def test_a_name_makes_the_benchmark_s_items_with_seed_and_options():
    found = list(as_data("qa(facts=2, count=20, contrast=True)", with_words(), seed=4))
    again = list(as_data("qa(contrast=True,count=20,facts=2)", with_words(), seed=4))
    other = list(as_data("qa(facts=2,count=20,contrast=True)", with_words(), seed=5))
    assert found == again != other
    assert len(found) == 20
    assert {item.groups["facts"] for item in found} == {2}
    assert all(len(item.contrast) == 1 for item in found)


def test_a_path_follows_the_name_s_colon(tmp_path):
    path = written(tmp_path, "a (1): b.json", json.dumps(VERSION_2))
    assert [item.id for item in as_data(f"squad:{path}", with_words())] == ["q1", "q3"]
    whole = list(as_data(f"squad(whole=True):{path}", with_words()))
    assert whole[0].target == Span(" Ada King")


@pytest.mark.parametrize(
    ("name", "maker", "arguments"),
    [
        ("agreement(attractors=2)", "agreement_sentences", {"seed": 3, "attractors": 2}),
        ("blimp:there/is.jsonl", "blimp", {"path": "there/is.jsonl"}),
        ("lm-syneval:there", "lm_syneval", {"path": "there"}),
        ("linzen:C:/there.tsv", "linzen", {"path": "C:/there.tsv"}),
    ],
)
def test_each_name_stands_for_its_own_maker(monkeypatch, name, maker, arguments):
    def made(path=None, *, seed=None, attractors=None):
        given = {"path": path, "seed": seed, "attractors": attractors}
        return {key: value for key, value in given.items() if value is not None}

    part = SimpleNamespace(items_of=lambda sentences, explainer: [(sentences, explainer)], **{maker: made})
    folders = []
    monkeypatch.setattr(data_module, "import_module", lambda folder: folders.append(folder) or part)
    with unchecked():
        assert items(name, seed=3) == [(arguments, explainer())]
    assert folders == ["apportion.evaluation.agreement"]


def test_the_agreement_benchmark_is_there_by_name():
    found = list(islice(as_data("agreement(attractors=1)", explainer()), 5))
    assert len(found) == 5
    assert {item.groups["attractors"] for item in found} == {1}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("agreemnt", "there are no data 'agreemnt', and no such file; did you mean 'agreement'?"),
        ("squod:x.json", "did you mean 'squad'? Else give agreement, qa, blimp:PATH"),
        ("nothing.jsonl", "there are no data 'nothing.jsonl', and no such file; give agreement"),
        ("The keys to the cabinet", "or a list of texts"),
        ("The keys to the cabinet " * 400, "there are no data 'The keys .*…', and no such file"),
        ("a\0b", "no such file"),
        ("", "there are no data"),
        ("squad", "give its path: 'squad:PATH'"),
        ("blimp:", "no such file; did you mean 'blimp'"),
        ("qa:there", "are generated and take no path; leave out ':there'"),
        ("squad:none.json", "cannot read 'none.json'"),
        ("qa(fact=3)", "no option 'fact'; the options are facts, count, whole, contrast, wording"),
        ("qa(seed=3)", "no option 'seed'"),
        ("qa(facts=9)", "facts=9 does not fit"),
        ("qa(count='x')", "count='x' does not fit; give a value like count=10000"),
        ("qa(whole=1)", "whole=1 does not fit; give a value like whole=False"),
        ("qa(3)", r"cannot read the options in 'data\(3\)'; write them like qa\(count=100\)"),
    ],
)
def test_a_name_that_fits_nothing_is_refused_and_never_taken_for_texts(name, message):
    with pytest.raises(ApportionError, match=message.replace("?", r"\?")) as caught:
        as_data(name, with_words())
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 320


# Files of texts


def test_a_text_file_has_a_text_a_line(tmp_path):
    path = written(tmp_path, "texts.txt", "\ufeffthe old dog\r\n\n  \n the cat\u2028sees\nthe man")
    for given_path in (path, str(path)):
        found = items(given_path)
        assert [item.prompt for item in found] == ["the old dog", " the cat\u2028sees", "the man"]
        assert [item.id for item in found] == ["texts.txt:1", "texts.txt:4", "texts.txt:5"]


def test_texts_come_from_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("the dog\n\nthe cat\n"))
    assert [(item.id, item.prompt) for item in items("-")] == [("stdin:1", "the dog"), ("stdin:3", "the cat")]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    with pytest.raises(ApportionError, match="'stdin' holds no text"):
        items("-")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", "", "'empty.txt' holds no text; write one a line"),
        ("blank.txt", "\n \n", "'blank.txt' holds no text"),
        ("latin.txt", b"the dog\nthe \xe9\n", "latin.txt is not UTF-8 text, from about line"),
        ("empty.jsonl", "\n", "empty.jsonl' holds no items; write a JSON object a line"),
        ("texts.csv", "the dog", "is no file of a known kind; give .jsonl with an item a line, .txt"),
        ("dev.json", "{}", "is no file of a known kind; .* SQuAD's format is read by squad:PATH"),
    ],
)
def test_files_that_hold_nothing_or_something_else_are_refused(tmp_path, name, content, message):
    with pytest.raises(ApportionError, match=message) as caught:
        items(written(tmp_path, name, content))
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ApportionError, match="is no file of a known kind"):
        items(tmp_path)


# Files of items


def test_a_line_is_an_item(tmp_path):
    path = written(
        tmp_path,
        "items.jsonl",
        lines(
            {"prompt": "the old dog", "target": " is", "contrast": " are", "truth": [[8, 11]], "groups": {"n": 1}},
            {"id": 7, "prompt": CHAT, "target": 12, "contrast": [" is", 13], "unit": "probability"},
            {"id": "s", "prompt": IDS, "target": {"span": " of the dog"}},
            {"id": "t", "prompt": "the dog", "target": {"span": [11, 12], "unit": "logit"}, "truth": ["dog"]},
            {"id": "p", "prompt": "the dog", "position": -1, "target": None},
        ),
    )
    assert items(path) == [
        Item(
            id="items.jsonl:1", prompt="the old dog", target=" is", contrast=" are", truth=((8, 11),), groups={"n": 1}
        ),
        Item(id="7", prompt=CHAT, target=12, contrast=(" is", 13), unit="probability"),
        Item(id="s", prompt=IDS, target=Span(" of the dog")),
        Item(id="t", prompt="the dog", target=Span((11, 12), "logit"), truth=((4, 7),)),
        Item(id="p", prompt="the dog", position=-1),
    ]


def test_the_lines_in_the_documentation_are_items(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    block = next(block for block in page.split("```json\n") if block.startswith('{"prompt"')).split("```")[0]
    found = items(written(tmp_path, "items.jsonl", block))
    assert [item.prompt[a:b] for item in found for a, b in item.truth] == ["keys", "France"]
    assert [item.id for item in found] == ["items.jsonl:1", "capital", "answer"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "this is not JSON"),
        ('["the dog"]', "this is a list; write a JSON object"),
        ("{}", "the field 'prompt' is missing; give a text"),
        ('{"prompt": 3}', "the field 'prompt' is 3"),
        ('{"prompt": []}', r"the field 'prompt' is \[\]"),
        ('{"prompt": [{"role": "user"}]}', "the field 'prompt' is"),
        ('{"prompt": [1, true]}', "the field 'prompt' is"),
        ('{"prompt": "a", "targt": "b"}', r"no field 'targt'; did you mean 'target'\? The fields are id, prompt"),
        ('{"prompt": "a", "id": null}', "the field 'id' is None"),
        ('{"prompt": "a", "target": true}', "the field 'target' is True"),
        ('{"prompt": "a", "target": ["b", "c"]}', "the field 'target' is"),
        ('{"prompt": "a", "target": {"spam": "b"}}', "the field 'target' is"),
        ('{"prompt": "a", "target": {"span": [1.5]}}', "the field 'span' is"),
        ('{"prompt": "a", "target": {"span": ""}}', "the span to explain is empty"),
        ('{"prompt": "a", "target": {"span": "b", "unit": "probability"}}', "does not add up over a span"),
        ('{"prompt": "a", "target": {"span": "b"}, "contrast": "c"}', "belong inside Target"),
        ('{"prompt": "a", "contrast": {"b": 1}}', "the field 'contrast' is"),
        ('{"prompt": "a", "unit": "logits"}', "the field 'unit' is 'logits'; give 'logit' or"),
        ('{"prompt": "a", "position": 1.5}', "the field 'position' is 1.5"),
        ('{"prompt": "a", "truth": "a"}', "the field 'truth' is 'a'; give a list"),
        ('{"prompt": "a", "truth": [0, 1]}', "the field 'truth' is 0; give places"),
        ('{"prompt": "a", "truth": [[1, 1]]}', r"the truth \[1, 1\] is no place in the prompt"),
        ('{"prompt": "a", "truth": [[0, 2]]}', "is no place in the prompt, which has 1 characters"),
        ('{"prompt": "aa", "truth": ["a"]}', r"the truth 'a' occurs 2 times in the prompt; give its place"),
        ('{"prompt": [1], "truth": ["a"]}', "the truth 'a' occurs 0 times"),
        ('{"prompt": "a", "groups": ["b"]}', "the field 'groups' is"),
        ('{"prompt": "a", "groups": {"b": 1.5}}', "the field 'groups' is"),
    ],
)
def test_a_malformed_line_is_refused_with_file_and_number(tmp_path, line, message):
    path = written(tmp_path, "items.jsonl", '{"prompt": "the dog"}\n\n' + line + "\n")
    stream = as_data(path, explainer())
    assert next(iter(stream)).prompt == "the dog"
    with unchecked(), pytest.raises(ApportionError, match=message) as caught:
        list(read_items(path))
    assert str(caught.value).startswith(f"{path}, line 3: ")
    assert "\n" not in str(caught.value)


OUTPUTS = st.one_of(st.text(min_size=1), st.integers(0, 50))
PROMPTS = st.one_of(
    st.text(min_size=2),
    st.lists(st.integers(0, 50), min_size=1),
    st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": st.text()}), min_size=1),
)
SPANS = st.one_of(st.text(min_size=1), st.lists(st.integers(0, 50), min_size=1).map(tuple))
GROUPS = st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.booleans()), max_size=3)


@st.composite
def fields_of_items(draw: st.DrawFn) -> dict[str, Any]:
    if draw(st.booleans()):
        unit = draw(st.sampled_from(["logit", "log-probability"]))
        asked: dict[str, Any] = {"target": ("span", draw(SPANS), unit)}
    else:
        asked = {
            "target": draw(st.none() | OUTPUTS),
            "contrast": draw(st.none() | OUTPUTS | st.lists(OUTPUTS).map(tuple)),
            "unit": draw(st.sampled_from(["logit", "log-probability", "probability"])),
            "position": draw(st.none() | st.integers() | st.text()),
        }
    prompt = draw(PROMPTS)
    truth = ((0, 1), (1, 2)) if isinstance(prompt, str) and draw(st.booleans()) else ()
    return {"id": draw(st.text()), "prompt": prompt, "truth": truth, "groups": draw(GROUPS), **asked}


@given(st.lists(fields_of_items(), min_size=1, max_size=4, unique_by=lambda fields: fields["id"]))
def test_items_come_back_from_a_file_as_they_were(tmp_path_factory, written_down):
    spans = [{"target": Span(*f["target"][1:])} if isinstance(f["target"], tuple) else {} for f in written_down]
    every = [Item(**fields | span) for fields, span in zip(written_down, spans, strict=True)]
    path = tmp_path_factory.mktemp("items") / "items.jsonl"
    assert write_items(iter(every), path) == len(every)
    assert list(read_items(path)) == every


def test_a_target_comes_back_as_what_it_asks(tmp_path):
    item = Item(id="t", prompt="the dog", target=Target(" is", (" are", 12), "probability", -1))
    write_items([item], tmp_path / "items.jsonl")
    (back,) = read_items(tmp_path / "items.jsonl")
    assert back.asked == item.asked


def test_generated_items_can_be_kept(tmp_path):
    kept = list(as_data("qa(count=30)", with_words()))
    write_items(kept, tmp_path / "mine.jsonl")
    assert list(as_data(tmp_path / "mine.jsonl", explainer())) == kept


def of_the_output(output: Any) -> torch.Tensor:
    return output.logits.sum()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([Item(id="f", prompt="a", target=of_the_output)], "'f' cannot be written, since its target is a function"),
        ([Item(id="t", prompt=INPUTS)], "'t' cannot be written, its prompt is a dict"),
        ([Item(id="t", prompt=torch.tensor(IDS))], "'t' cannot be written, its prompt is a Tensor"),
        ([ITEM, ITEM], "two items are called 'mine'"),
    ],
)
def test_what_a_file_cannot_hold_is_refused_and_the_old_file_stays(tmp_path, given, message):
    path = tmp_path / "items.jsonl"
    write_items([ITEM], path)
    before = path.read_bytes()
    with pytest.raises(ApportionError, match=message):
        write_items(given, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_items_need_a_folder_to_be_written_to(tmp_path):
    with pytest.raises(ApportionError, match="there is no folder"):
        write_items([ITEM], tmp_path / "none" / "items.jsonl")


# Memory


@pytest.mark.parametrize("kind", ["texts.txt", "items.jsonl", "questions"])
def test_ten_thousand_items_take_no_more_memory_than_a_few(tmp_path, kind):
    text, count = "the old dog sees the cat " * 20, 10_000
    if kind == "texts.txt":
        stream = iter(as_data(written(tmp_path, kind, f"{text}\n" * count), explainer()))
    elif kind == "items.jsonl":
        every = "".join(lines({"id": k, "prompt": text}) for k in range(count))
        stream = iter(as_data(written(tmp_path, kind, every), explainer()))
    else:
        stream = questions(count=count)
    tracemalloc.start()
    try:
        seen = sum(1 for _ in stream)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == count
    # Questions keep their identifiers, 65 bytes each, to tell themselves apart.
    assert peak < (2_000_000 if kind == "questions" else 500_000)
