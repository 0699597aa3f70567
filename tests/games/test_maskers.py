"""Maskers: what the model reads when features are absent."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from apportion import ApportionError, Explainer, LeaveOneOut, Masker, Replace, Span, Target
from apportion.games import as_masker, players_of, presence, target_payoff
from apportion.targets import Function
from apportion.task._task import AttributionTask
from apportion.task._variant import Variant
from tests.checking import unchecked
from tests.tiny import InFloat64, Of, tiny, tokenizer

TEXT = "The man who owns the dogs"
KINDS = {"bert": "masked", "bert_classifier": "masked", "bert_token_classifier": "masked", "t5": "seq2seq"}
NAMES = ("auto", "delete", "attention-mask", "replace", "zero", "mean")
IDS = torch.tensor([[9, 10, 11, 12, 13]])


@pytest.fixture(autouse=True)
def in_float64():
    with InFloat64():
        yield


@cache
def explainer(name: str = "llama", *, with_tokenizer: bool = True) -> Explainer:
    return Explainer(tiny(name), tokenizer(KINDS.get(name, "causal")) if with_tokenizer else None)


def task(prompt: Any, *targets: Any, name: str = "llama", with_tokenizer: bool = True) -> AttributionTask:
    own = explainer(name, with_tokenizer=with_tokenizer)
    return AttributionTask(own.head, own.prompts(prompt), targets or [Target(11)])


def without(masker: str, asked: AttributionTask, *absent: int) -> Variant:
    present = torch.ones(len(asked.prompts[0].features), dtype=torch.bool)
    present[list(absent)] = False
    return as_masker(masker).variant(asked, 0, present)


def ids(variant: Variant, part: str = "input_ids") -> list[int]:
    return variant.prompt.inputs[part][0].tolist()


def logits(name: str = "llama", **inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return tiny(name)(**inputs).logits[0]


def test_deleting_closes_up_every_input_of_one_entry_per_token():
    given = {
        "input_ids": IDS,
        "attention_mask": torch.ones_like(IDS),
        "token_type_ids": torch.tensor([[0, 0, 1, 1, 1]]),
        "position_ids": torch.tensor([[4, 5, 6, 7, 8]]),
    }
    asked = task(given, Target(5, position=3), name="bert_token_classifier", with_tokenizer=False)
    variant = without("delete", asked, 1, 4)
    assert ids(variant) == [9, 11, 12]
    assert variant.prompt.inputs["attention_mask"].tolist() == [[1, 1, 1]]
    assert variant.prompt.inputs["token_type_ids"].tolist() == [[0, 1, 1]]
    assert variant.prompt.inputs["position_ids"].tolist() == [[4, 5, 6]]
    assert dict(variant.prompt.parts) == {"input_ids": 3}
    assert asked.prompts[0].inputs["input_ids"].tolist() == IDS.tolist()


def test_deleting_moves_the_row_to_the_last_token_left_before_it():
    asked = task(IDS, Target(5, position=3), Target(5), with_tokenizer=False)
    assert without("delete", asked, 1).rows == [(2,), (3,)]
    assert without("delete", asked, 3).rows == [(2,), (3,)]
    assert without("delete", asked, 4).rows == [(3,), (3,)]
    assert without("delete", asked, 2, 3, 4).rows == [(1,), (1,)]
    spanned = task(IDS, Span((20, 21, 22)), with_tokenizer=False)
    assert ids(without("delete", spanned, 4)) == [9, 10, 11, 12, 20, 21]
    assert without("delete", spanned, 4).rows == [(3, 4, 5)]


def test_where_nothing_is_left_to_read_at_a_token_that_begins_a_text_stands_in():
    asked = task(IDS, Target(5, position=1), Target(5), with_tokenizer=False)
    begin = tiny("llama").config.bos_token_id
    emptied = without("delete", asked, 0, 1, 2, 3, 4)
    assert (ids(emptied), emptied.rows) == ([begin], [(0,), (0,)])
    some = without("delete", asked, 0, 1, 3)
    assert (ids(some), some.rows) == ([begin, 11, 13], [(0,), (2,)])
    source = task({"input_ids": IDS, "decoder_input_ids": IDS}, name="t5", with_tokenizer=False)
    emptied = without("delete", source, 0, 1, 2, 3, 4)
    assert ids(emptied) == [tiny("t5").config.eos_token_id]
    assert ids(emptied, "decoder_input_ids") == IDS[0].tolist()


def test_deleting_everything_is_refused_where_no_token_may_stand_in():
    def read(input_ids: Tensor, head: Tensor) -> Any:
        return type("Output", (), {"logits": head[input_ids]})()

    own = Explainer(Of(read, head=torch.eye(20)))
    asked = AttributionTask(own.head, own.prompts(IDS), [Function(lambda output: output.logits.sum())])
    with pytest.raises(ApportionError, match="deleting leaves no token"):
        without("delete", asked, 0, 1, 2, 3, 4)


def test_source_and_decoder_lose_their_own_tokens():
    given = {
        "input_ids": IDS,
        "attention_mask": torch.ones_like(IDS),
        "decoder_input_ids": IDS + 20,
        "decoder_attention_mask": torch.ones_like(IDS),
    }
    asked = task(given, Target(5), name="t5", with_tokenizer=False)
    variant = without("delete", asked, 0, 7, 9)
    assert ids(variant) == [10, 11, 12, 13]
    assert ids(variant, "decoder_input_ids") == [29, 30, 32]
    assert variant.prompt.inputs["attention_mask"].shape == (1, 4)
    assert variant.prompt.inputs["decoder_attention_mask"].shape == (1, 3)
    assert variant.rows == [(2,)]
    masked = without("attention-mask", asked, 0, 7)
    assert masked.prompt.inputs["attention_mask"].tolist() == [[0, 1, 1, 1, 1]]
    assert masked.prompt.inputs["decoder_attention_mask"].tolist() == [[1, 1, 0, 1, 1]]


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert_classifier"])
def test_the_attention_mask_is_the_model_s_own(name):
    asked = task(IDS, Target(1), name=name, with_tokenizer=False)
    mask = torch.tensor([[1, 0, 1, 1, 1]])
    found = asked.evaluate(0, [without("attention-mask", asked, 1)])
    expected = logits(name, input_ids=IDS, attention_mask=mask)
    assert_close(found[0, 0], expected[1] if name == "bert_classifier" else expected[-1, 1])


def test_no_target_looks_at_nothing():
    asked = task(IDS, Target(5, position=1), with_tokenizer=False)
    with pytest.raises(ApportionError, match="the output is undefined"):
        without("attention-mask", asked, 0, 1)
    without("attention-mask", asked, 1, 2, 3, 4)


def test_an_attention_mask_is_refused_where_tokens_meet_otherwise():
    with pytest.raises(
        ApportionError, match=r"MambaForCausalLM does not obey an attention mask .* use masker='delete'"
    ):
        without("attention-mask", task(IDS, name="mamba"), 1)


def test_tokens_are_replaced_by_what_the_tokenizer_has():
    words = tokenizer("masked")
    assert ids(without("replace", task(IDS, name="bert_classifier"), 1)) == [9, words.mask_token_id, 11, 12, 13]
    assert ids(without("replace", task(IDS), 1, 4)) == [9, words.unk_token_id, 11, 12, words.unk_token_id]
    assert ids(without("replace(pad)", task(IDS), 1)) == [9, words.pad_token_id, 11, 12, 13]
    assert ids(without("replace(7)", task(IDS, with_tokenizer=False), 0)) == [7, 10, 11, 12, 13]
    with pytest.raises(ApportionError, match="no mask token to replace by"):
        without("replace(mask)", task(IDS), 1)
    with pytest.raises(ApportionError, match="found no mask, unk, pad or eos token"):
        without("replace", task(IDS, with_tokenizer=False), 1)
    with pytest.raises(ApportionError, match="token id 96 is out of the vocabulary"):
        without("replace(96)", task(IDS), 1)
    with pytest.raises(ApportionError, match="not tokens; use masker"):
        without("replace(7)", task({"inputs_embeds": torch.randn(1, 3, 16, dtype=torch.float64)}), 1)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bart"])
@pytest.mark.parametrize("masker", ["zero", "mean"])
def test_an_absent_embedding_is_zero_or_the_mean_of_the_vocabulary(masker, name):
    given = {"input_ids": IDS, "decoder_input_ids": IDS + 20} if name == "bart" else IDS
    asked = task(given, Target(5), name=name, with_tokenizer=False)
    embedding = tiny(name).get_input_embeddings()
    every = embedding(torch.arange(96)).detach()
    embeddings = embedding(IDS).detach()
    embeddings[0, 2] = 0 if masker == "zero" else every.mean(0)
    variant = without(masker, asked, 2)
    assert_close(variant.prompt.inputs["inputs_embeds"], embeddings)
    assert "input_ids" not in variant.prompt.inputs
    others = {"decoder_input_ids": IDS + 20} if name == "bart" else {}
    found = asked.evaluate(0, [variant])
    assert_close(found[0, 0], logits(name, inputs_embeds=embeddings, **others)[-1, 5])
    if name == "bart":
        decoder = without(masker, asked, 6).prompt.inputs["decoder_inputs_embeds"]
        expected = embedding(IDS + 20).detach()
        expected[0, 1] = 0 if masker == "zero" else every.mean(0)
        assert_close(decoder, expected)


def test_embeddings_that_were_given_are_zeroed_deleted_or_set_to_their_mean():
    given = torch.randn(1, 4, 16, dtype=torch.float64)
    asked = task({"inputs_embeds": given})
    assert without("zero", asked, 1).prompt.inputs["inputs_embeds"][0, 1].tolist() == [0] * 16
    assert_close(without("mean", asked, 1).prompt.inputs["inputs_embeds"][0, 1], given[0].mean(0))
    assert_close(without("delete", asked, 1).prompt.inputs["inputs_embeds"], given[:, [0, 2, 3]])
    begin = tiny("llama").get_input_embeddings()(torch.tensor([2])).detach()
    assert_close(without("delete", asked, 0, 1, 2, 3).prompt.inputs["inputs_embeds"][0], begin)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral", "bert_classifier", "t5", "bart"])
@pytest.mark.parametrize("masker", NAMES)
def test_everybody_present_is_the_prompt_itself_and_nobody_present_has_a_value(masker, name):
    asked = task(TEXT, Target(1), Target(2), name=name)
    players = players_of(asked, 0, "words")
    payoff = target_payoff(asked, 0, players, masker)
    coalitions = torch.ones(3, len(players.groups), dtype=torch.bool)
    coalitions[1] = False
    coalitions[2, 0] = False
    values = payoff(coalitions)
    assert values.shape == (3, 2)
    assert_close(values[0].tolist(), asked.target_values.values[0], rtol=1e-10, atol=1e-10)
    assert values.isfinite().all()
    assert (values[1] != values[0]).all()
    assert asked.passes.forward == 4


def test_presence_is_of_all_tokens_of_a_player():
    asked = task(TEXT)
    players = players_of(asked, 0, "words")
    present = presence(players, torch.tensor([[True] * 3 + [False] + [True] * 2]), 9)
    assert present[0].tolist() == [True] * 4 + [False] * 2 + [True] * 3


def test_a_masker_goes_by_its_name():
    for name in ("delete", "attention-mask", "replace", "replace(pad)", "replace(7)", "zero", "mean", "auto"):
        assert as_masker(name).name == name
        assert as_masker(as_masker(name)) == as_masker(name)
    assert as_masker("replace(token='pad')") == Replace("pad")
    assert as_masker("auto").resolved(task(TEXT)).name == "delete"
    assert as_masker("auto").resolved(task(TEXT, name="bert_classifier")).name == "replace(mask)"
    assert as_masker("replace").resolved(task(TEXT)).name == "replace(unk)"
    assert LeaveOneOut(masker=Replace("pad")).options["masker"] == "replace(pad)"
    with pytest.raises(ApportionError, match="there is no masker 'smudge'; the maskers are auto, delete"):
        as_masker("smudge")
    with unchecked(), pytest.raises(ApportionError, match="token='blank' is not known"):
        as_masker("replace(blank)")


def test_a_masker_of_one_s_own_serves():
    class Doubled(Masker):
        """Absent tokens become the one before them."""

        name = "doubled"

        def variant(self, task: AttributionTask, example: int, present: Tensor) -> Variant:
            prompt = task.prompts[example]
            tokens = prompt.inputs["input_ids"]
            moved = torch.where(present, tokens, tokens.roll(1, 1))
            return Variant(type(prompt)({**prompt.inputs, "input_ids": moved}, (), prompt.parts), task.rows[example])

    found = explainer().explain(IDS, method=LeaveOneOut(masker=Doubled()), target=5)
    whole = logits(input_ids=IDS)[-1, 5]
    assert_close(found.scores[2], whole - logits(input_ids=torch.tensor([[9, 10, 10, 12, 13]]))[-1, 5])
    assert found.options["masker"] == "doubled"
