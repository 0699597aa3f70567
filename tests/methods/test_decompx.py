"""DecompX against vectors carried literally, and against CP-LRP, which it equals where biases are a token's."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from apportion import ApportionError, Attribution, DecompX, Explainer
from apportion.methods.forward import _components
from tests import architectures
from tests.checking import unchecked
from tests.reference import literal_decompx
from tests.tiny import InFloat64, build, tiny, tokenizer

TEXT = "The man owns dogs"
KINDS = {"bert": "masked", "bert_classifier": "masked", "t5": "seq2seq", "bart": "seq2seq"}
TEXTS = {"bert": "The man [MASK] dogs"}
LITERAL = {
    "bert_classifier": literal_decompx.bert,
    "gpt2": literal_decompx.gpt2,
    "llama": literal_decompx.llama,
    "llama_with_biases": literal_decompx.llama,
}
TARGET = 2


@pytest.fixture(autouse=True)
def in_float64():
    with InFloat64():
        yield


@cache
def explainer(name: str) -> Explainer:
    return Explainer(tiny(name), tokenizer(KINDS.get(name, "causal")))


def explained(name: str, method: Any, **options: Any) -> Attribution:
    return explainer(name).explain(TEXTS.get(name, TEXT), method=method, **{"target": TARGET, **options})


@cache
def literally(name: str, sharing: Any) -> Tensor:
    ids = explainer(name).processor(TEXT, return_tensors="pt").input_ids[0]
    return LITERAL[name](tiny(name), ids, TARGET, sharing)


@pytest.mark.parametrize("name", LITERAL)
def test_the_literal_vectors_sum_to_the_models_own_logit(name):
    for sharing in ("token", "absdot"):
        assert literally(name, sharing).sum().item() == pytest.approx(explained(name, "cp-lrp").target.value)


@pytest.mark.parametrize("name", LITERAL)
def test_one_backward_pass_gives_what_the_carried_vectors_give(name):
    expected = literally(name, "token")
    for bias in ("token", "none"):
        found = explained(name, DecompX(bias=bias))
        assert_close(found.scores, expected[:-1], rtol=1e-9, atol=1e-11)
        line = {"token": "biases", "none": "biases, left out"}[bias]
        kept = found.ledger.lines.get(line, torch.zeros(()).double())
        assert_close(kept, expected[-1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", LITERAL)
def test_biases_are_divided_as_the_carried_vectors_say(name):
    found = explained(name, DecompX(bias="absdot"))
    assert_close(found.scores, literally(name, "absdot")[:-1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["llama", "llama_with_biases", "qwen2", "gemma2", "mixtral", "gpt2", "t5"])
def test_without_biases_it_equals_cp_lrp(name):
    lrp = explained(name, "cp-lrp")
    expected = lrp.scores if lrp.position_scores is None else lrp.scores + lrp.position_scores
    assert_close(explained(name, DecompX(bias="none")).scores, expected, rtol=1e-9, atol=1e-11)


def test_it_equals_cp_lrp_where_the_model_has_to_run_again_for_a_rule():
    made = architectures.build("causal_lm", "dbrx")
    theirs, ours = (Explainer(made.model).explain(made.inputs, method=method) for method in ("cp-lrp", "decompx"))
    assert_close(ours.scores, theirs.scores, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("bias", ["token", "none", "absdot"])
@pytest.mark.parametrize("name", ["llama_with_biases", "gemma2", "qwen2_moe", "gpt2", "bert", "bert_classifier"])
def test_the_books_balance(name, bias):
    found = explained(name, DecompX(bias=bias))
    assert found.ledger.total.item() == pytest.approx(found.target.value)
    assert found.ledger.relative_residual.item() < 1e-11
    assert found.ledger.lines["tokens"].item() == pytest.approx(found.scores.sum().item())
    if bias == "absdot":
        assert found.scores.sum().item() == pytest.approx(found.target.value)


@pytest.mark.parametrize("name", ["llama", "gemma2", "mixtral"])
def test_where_there_is_no_bias_there_is_none_to_divide(name):
    assert_close(
        explained(name, DecompX(bias="absdot")).scores, explained(name, DecompX()).scores, rtol=1e-9, atol=1e-11
    )


@pytest.mark.parametrize("bias", ["token", "absdot"])
@pytest.mark.parametrize("unit", ["logit", "log-probability"])
def test_several_targets_are_each_alone(unit, bias):
    method = DecompX(bias=bias)
    both = explained("gpt2", method, target=[7, 20], contrast=3, unit=unit)
    for k, target in enumerate([7, 20]):
        alone = explained("gpt2", method, target=target, contrast=3, unit=unit)
        assert_close(both.scores[k], alone.scores)
        assert alone.ledger.total.item() == pytest.approx(alone.target.value)
        assert alone.ledger.relative_residual.item() < 1e-11


@pytest.mark.parametrize("bias", ["token", "absdot"])
def test_later_positions_get_exactly_nothing(bias):
    found = explained("gpt2", DecompX(bias=bias), position=3).scores
    assert (found[4:] == 0).all()
    assert (found[:4] != 0).all()


def test_an_encoder_and_a_decoder_are_served_without_vectors():
    found = explained("bart", DecompX())
    assert found.ledger.relative_residual.item() < 1e-11
    with pytest.raises(ApportionError, match="has an encoder and a decoder"):
        explained("bart", DecompX(bias="absdot"))


@pytest.mark.parametrize("unknown", [torch.sin, lambda output: output + output.sin()])
def test_vectors_that_do_not_sum_to_the_output_are_refused(unknown):
    model = build("llama")
    model.model.layers[0].mlp.register_forward_hook(lambda module, arguments, output: unknown(output))
    with pytest.raises(ApportionError, match="do not sum to the output of LlamaForCausalLM"):
        Explainer(model, tokenizer()).explain(TEXT, method=DecompX(bias="absdot"))


def test_a_model_that_mixes_tokens_elsewhere_is_refused():
    model = build("llama")
    model.model.layers[0].mlp.register_forward_hook(lambda module, arguments, output: output + output.roll(1, 1))
    with pytest.raises(ApportionError, match="mixes tokens in other ways than attention"):
        Explainer(model, tokenizer()).explain(TEXT, method=DecompX())


def test_too_many_numbers_are_refused(monkeypatch):
    monkeypatch.setattr(_components, "MOST_NUMBERS", 2000)
    with pytest.raises(ApportionError, match="too long to carry a vector for each token"):
        explained("gpt2", DecompX(bias="absdot"))


def test_a_layer_that_runs_again_and_again_is_refused():
    model = build("llama")
    model.model.layers[1] = model.model.layers[0]
    with pytest.raises(ApportionError, match="runs the same layer repeatedly"):
        Explainer(model, tokenizer()).explain(TEXT, method=DecompX())


def test_an_unknown_way_with_biases_is_refused():
    with unchecked(), pytest.raises(ApportionError, match="use 'token', 'absdot' or 'none'"):
        DecompX(bias="equal")
