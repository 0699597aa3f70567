"""Files of results: the same when read again, refused where they hold something else, and never half-written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from apportion import ApportionError, Attribution, Explainer, Generation, Interactions, Ledger
from apportion.core import Feature, written_whole
from apportion.core._files import write_atomically
from apportion.core._saved import KEY, Saved
from apportion.evaluation import Evaluation
from apportion.results import Cost, Explained
from apportion.results.evaluation import Recommendation
from tests import every_result
from tests.checking import unchecked
from tests.every_result import MAKERS, PICTURE
from tests.tiny import build, tokenizer

FILES = {name: maker for name, maker in MAKERS.items() if name not in ("evaluation", "recommendation")}
TEXTS = st.text(st.characters(codec="utf-8"), max_size=4)
NUMBERS = st.floats(width=32, allow_nan=False)


def same(a: Any, b: Any) -> bool:
    """Whether two values are of the same types with the same numbers, all the way down."""
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, Exception):
        return type(a) is type(b) and str(a) == str(b)
    if is_dataclass(a):
        saved = [f.name for f in fields(a) if f.metadata.get("saved", True)]
        return type(a) is type(b) and all(same(getattr(a, name), getattr(b, name)) for name in saved)
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@st.composite
def attributions(draw: st.DrawFn) -> Attribution:
    """Any attribution: one target or several; with and without a ledger, details, positions, errors and cost."""
    shape = (*draw(st.sampled_from([(), (1,), (3,)])), draw(st.integers(0, 4)))
    dtype = draw(st.sampled_from([torch.float64, torch.float32, torch.bfloat16]))
    made = torch.Generator().manual_seed(draw(st.integers(0, 9)))

    def numbers(*size: int) -> Tensor:
        return torch.randn(size, generator=made).to(dtype)

    amounts = st.dictionaries(TEXTS, st.builds(lambda: numbers(*shape[:-1])), max_size=3)
    ledgers = st.builds(
        Ledger,
        total=st.builds(lambda: numbers(*shape[:-1])),
        lines=amounts,
        details=st.dictionaries(TEXTS, amounts, max_size=2),
    )
    spans = st.one_of(st.none(), st.integers(0, 9))
    features = st.builds(
        Feature, label=TEXTS, positions=st.lists(st.integers(0, 9)).map(tuple), role=st.none() | TEXTS, turn=spans
    )
    count = shape[0] if len(shape) == 2 else 1
    explained = st.builds(Explained, label=TEXTS, unit=TEXTS, value=NUMBERS, feature=spans)
    optional = st.none() | st.builds(lambda: numbers(*shape))
    return Attribution(
        scores=numbers(*shape),
        features=tuple(draw(st.lists(features, min_size=shape[-1], max_size=shape[-1]))),
        explained=tuple(draw(st.lists(explained, min_size=count, max_size=count))),
        method=draw(TEXTS),
        options=draw(st.dictionaries(TEXTS, st.none() | NUMBERS | TEXTS | st.lists(st.booleans()), max_size=3)),
        ledger=draw(st.none() | ledgers),
        position_scores=draw(optional),
        prediction=tuple(draw(st.lists(st.tuples(TEXTS, NUMBERS), max_size=2))),
        standard_errors=draw(optional),
        conserves=draw(st.sampled_from(["exactly", "with a remainder", "no"])),
        cost=draw(st.none() | st.builds(Cost, seconds=NUMBERS, forward=NUMBERS, backward=NUMBERS)),
        pictures=draw(st.sampled_from([(), (PICTURE,)])),
    )


@given(st.data())
def test_any_attribution_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    with unchecked():  # beartype draws random numbers, which no strategy may
        found = data.draw(attributions())
    assert same(Attribution.load(found.save(tmp_path_factory.getbasetemp() / "any.safetensors")), found)


@pytest.mark.parametrize("name", FILES)
def test_every_result_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    found = FILES[name](tmp_path)
    again = type(found).load(found.save(tmp_path / "file"))
    assert same(again, found)
    assert again.to_dict() == found.to_dict()
    assert repr(again) == repr(found)


def test_tensors_that_share_memory_or_a_name_are_all_kept(tmp_path: Path) -> None:
    total = torch.arange(6.0).reshape(2, 3)
    one, other = {"y.z": total[0, 0]}, {"z": total[0, 1]}
    found = Ledger(total=total.T[1, 0], lines={"a": total[1, 1]}, details={"x": one, "x.y": other})
    assert same(Ledger.load(found.save(tmp_path / "file")), found)


def test_a_newer_version_another_kind_and_other_files_are_refused(tmp_path: Path) -> None:
    newer, foreign = tmp_path / "newer", tmp_path / "foreign"
    zeros = {"scores": torch.zeros(1)}
    header = {"version": 99, "kind": "Attribution", "value": {}}
    newer.write_bytes(safetensors.torch.save(zeros, metadata={KEY: json.dumps(header)}))
    foreign.write_bytes(safetensors.torch.save(zeros))
    (tmp_path / "text").write_text("half a file")
    saved = every_result.attribution().save(tmp_path / "attribution")
    for path, message in [
        (newer, "has format 99; this apportion reads up to 1: update apportion"),
        (foreign, "holds no result; give one that Interactions.save wrote"),
        (saved, "holds Attribution, not Interactions; read it with Attribution.load"),
        (tmp_path / "text", "not a safetensors file"),
        (tmp_path, "holds no Interactions"),
        (tmp_path / "none", "there is no file"),
    ]:
        with pytest.raises(ApportionError, match=message):
            Interactions.load(path)


def test_what_no_file_can_hold_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    found = replace(every_result.attribution(), options={"masker": object()})
    with pytest.raises(ApportionError, match=r"options\.masker is a object, which a file cannot hold"):
        found.save(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_an_evaluation_is_copied_and_never_written_over(tmp_path: Path) -> None:
    found = every_result.evaluation(tmp_path)
    again = Evaluation.load(found.save(tmp_path / "copy"))
    assert again.to_dict() == found.to_dict()
    assert list(again) == list(found)
    with pytest.raises(ApportionError, match="it is there already; name a new folder"):
        found.save(tmp_path / "copy")
    with pytest.raises(ApportionError, match="there is no folder"):
        found.save(tmp_path / "none" / "copy")
    assert {path.name for path in tmp_path.iterdir()} == {"run", "copy"}


def test_a_recommendation_keeps_its_evaluation_and_methods_given_by_name(tmp_path: Path) -> None:
    found = every_result.recommendation(tmp_path)
    again = Recommendation.load(found.save(tmp_path / "copy"))
    assert same(again.candidates, found.candidates)
    assert again.to_dict() == found.to_dict()
    assert again.method == "attnlrp"
    assert repr(again) == repr(found)
    of_object = replace(found, given={"attnlrp": object()})
    loaded = Recommendation.load(of_object.save(tmp_path / "object"))
    with pytest.raises(ApportionError, match="attnlrp was given as an object, which a file does not keep"):
        _ = loaded.method


def test_a_generation_is_seen_without_its_model_and_attributed_with_it(tmp_path: Path) -> None:
    explainer = Explainer(build("llama"), tokenizer())
    found = explainer.generate("the cat", max_new_tokens=3)
    path = found.save(tmp_path / "generation")
    alone = Generation.load(path)
    assert (alone.text, alone.tokens, repr(alone)) == (found.text, found.tokens, repr(found))
    with pytest.raises(ApportionError, match="was read from a file, without its model"):
        alone.attribute()
    again = Generation.load(path, explainer)
    assert same(replace(again.attribute(), cost=None), replace(found.attribute(), cost=None))


def test_fields_that_a_newer_version_adds_have_their_defaults(tmp_path: Path) -> None:
    found = every_result.attribution()
    tensors = {"scores": found.scores}
    explained = [{"label": "x", "unit": "logit", "value": 1.0}]
    features = [{"label": str(i)} for i in range(len(found.features))]
    value = {"scores": {"$tensor": "scores"}, "features": features, "explained": explained, "method": "m"}
    header = {"version": 1, "kind": "Attribution", "value": value}
    (tmp_path / "old").write_bytes(safetensors.torch.save(tensors, metadata={KEY: json.dumps(header)}))
    assert Attribution.load(tmp_path / "old").ledger is None


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_atomically(tmp_path / "folder", b"content")
    with suppress(KeyError), written_whole(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    with pytest.raises(ApportionError, match="there is no folder"):
        write_atomically(tmp_path / "none" / "file", b"content")


def test_every_saved_result_is_tested_here(tmp_path: Path) -> None:
    kinds = {type(maker(tmp_path)) for maker in FILES.values()} | {Recommendation}
    leaves = {kind for kind in _below(Saved) if not kind.__subclasses__()}
    assert leaves == kinds


def _below(kind: type) -> set[type]:
    return {kind, *(below for child in kind.__subclasses__() for below in _below(child))} - {Saved}
