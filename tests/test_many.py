"""Several prompts: each is explained when its turn comes, in batches or alone, and one that fails stops no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import apportion as ap
from tests.checking import unchecked
from tests.tiny import tiny, tokenizer

TEXTS = ["The man who owns the dogs", "the cat", "The old dog sees the man"]


def explainer() -> ap.Explainer:
    return ap.Explainer(tiny("llama"), tokenizer("causal"))


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_each_prompt_gets_what_it_gets_alone(batch_size: int) -> None:
    found = explainer().explain_many(TEXTS, " is", batch_size=batch_size, progress=False)
    for text, one in zip(TEXTS, found, strict=True):
        assert_close(one.scores, explainer().explain(text, " is").scores)
    assert len(found) == 3
    assert not found.failed


def test_prompts_are_read_when_their_turn_comes() -> None:
    read: list[str] = []

    def texts() -> Iterator[str]:
        for text in TEXTS:
            read.append(text)
            yield text

    found = explainer().explain_many(texts(), " is", progress=False)
    assert read == []
    first = next(iter(found))
    assert read == TEXTS[:1]
    assert_close(found[0].scores, first.scores)
    assert read == TEXTS[:1]
    assert len(found) == 3
    assert read == TEXTS


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_prompt_that_fails_stops_no_other(batch_size: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    texts = [TEXTS[0], "", TEXTS[1], " ".join(["man"] * 40)]
    found = explainer().explain_many(texts, " is", batch_size=batch_size, progress=False)
    assert [number for number, _ in found.items()] == [0, 2]
    assert set(found.failed) == {1, 3}
    assert "empty" in found.failed[1]
    assert "Shorten" in found.failed[3]
    assert len(caplog.records) == 2
    with pytest.raises(ap.ApportionError, match="prompt 1 has no attribution: the prompt '' is empty"):
        found[1]
    with pytest.raises(IndexError, match="there is no prompt 4; 4 were given"):
        found[4]
    assert "2 prompts could not be explained, such as prompt 1: " in repr(found)
    assert set(found.to_frame()["prompt"]) == {0, 2}
    again = ap.Attributions.load(found.save(tmp_path / "many.safetensors"))
    assert again.failed == found.failed
    assert_close(again[2].scores, found[2].scores)
    assert again.to_dict() == found.to_dict()


def test_what_does_not_fit_whatever_the_prompt_is_said_at_once() -> None:
    for options in ({"method": "nothing"}, {"features": "letters"}, {"positions": "between"}, {"unit": "pounds"}):
        with unchecked(), pytest.raises(ap.ApportionError):
            explainer().explain_many(TEXTS, **options)  # type: ignore[arg-type]


def test_a_batch_of_tensors_is_taken_apart() -> None:
    ids = torch.tensor([[9, 12, 7], [30, 11, 14]])
    found = explainer().explain_many(ids, 4, batch_size=2, progress=False)
    assert_close(found[1].scores, explainer().explain(ids[1], 4).scores)
    with pytest.raises(ap.ApportionError, match="explain takes one prompt, and 2 were given; explain_many takes"):
        explainer().explain(ids, 4)


def test_parts_of_a_text_have_one_vocabulary() -> None:
    text = "The man sees. The dog\n\nthe cat"
    whole = explainer().explain(text, " is")
    for named, count in (("words", 10), ("sentences", 3), ("paragraphs", 2)):
        parts = explainer().explain(text, " is", features=named)
        assert sum(not feature.template for feature in parts.features) == count
        assert_close(parts.scores.sum(), whole.scores.sum())
        assert_close(parts.scores, getattr(whole, named)().scores)
