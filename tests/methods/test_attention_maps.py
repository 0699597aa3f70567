"""Attention maps (chefer, grad-cam, grad-rollout, value-zeroing, globenc) against their equations, and refusals."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from apportion import (
    ApportionError,
    AttentionGradCAM,
    Attribution,
    Chefer,
    Explainer,
    Span,
    ValueZeroing,
)
from apportion.methods.forward import _value_zeroing
from apportion.models.anatomy._attention import Heads
from tests import architectures
from tests.checking import unchecked
from tests.reference import literal_attention_maps as literal
from tests.tiny import InFloat64, build, tiny, tokenizer

TEXT = "The man who owns the dogs"
KINDS = {"bert": "masked", "bert_classifier": "masked", "t5": "seq2seq", "bart": "seq2seq"}
TEXTS = {"bert": "The man who [MASK] the dogs"}
TARGET, CONTRAST = 2, 1
STACKS = ("llama", "gpt2", "bert", "bert_classifier")
GRADIENT_MAPS = {"chefer": literal.chefer, "grad-rollout": literal.grad_rollout}
METHODS = ("chefer", "grad-cam", "grad-rollout", "value-zeroing", "globenc")


@pytest.fixture(autouse=True)
def in_float64():
    with InFloat64():
        yield


@cache
def explainer(name: str) -> Explainer:
    return Explainer(tiny(name), tokenizer(KINDS.get(name, "causal")))


def explained(name: str, method: Any, **options: Any) -> Attribution:
    options = {"target": TARGET, "contrast": CONTRAST} | options
    return explainer(name).explain(TEXTS.get(name, TEXT), method=method, **options)


def inputs_of(name: str) -> dict[str, Tensor]:
    return {"input_ids": explainer(name).processor(TEXTS.get(name, TEXT), return_tensors="pt").input_ids}


def reading_row(name: str) -> int:
    """The position that the model predicts from."""
    return {"bert": 5, "bert_classifier": 0}.get(name, -1)


def difference(name: str) -> Any:
    """The target of `explained` as a function of the model's output."""

    def value(output: Any) -> Tensor:
        logits = output.logits[0] if output.logits.ndim == 2 else output.logits[0, reading_row(name)]
        return logits[TARGET] - logits[CONTRAST]

    return value


@cache
def eager(name: str) -> Any:
    return build(name, attn_implementation="eager")


def seen(name: str, which: str = "attentions", **inputs: Tensor) -> Any:
    return literal.attentions_and_gradients(eager(name), {**inputs_of(name), **inputs}, difference(name), which)


@pytest.mark.parametrize("method", GRADIENT_MAPS)
@pytest.mark.parametrize("name", STACKS)
def test_maps_of_attention_and_gradient_equal_their_equations(name, method):
    expected = GRADIENT_MAPS[method](*seen(name))[reading_row(name)]
    assert_close(explained(name, method).scores, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("layer", [-1, 0])
@pytest.mark.parametrize("name", STACKS)
def test_grad_cam_equals_its_equation(name, layer):
    attentions, gradients = seen(name)
    method = AttentionGradCAM(layer=layer)
    for sign, asked in ((1, {}), (-1, {"target": CONTRAST, "contrast": TARGET})):
        expected = literal.grad_cam(attentions[layer], sign * gradients[layer])[reading_row(name)]
        assert_close(explained(name, method, **asked).scores, expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_chefer_follows_an_encoder_and_a_decoder(name):
    start = torch.tensor([[tiny(name).config.decoder_start_token_id, 20, 31]])
    maps = [
        seen(name, which, decoder_input_ids=start)
        for which in ("encoder_attentions", "decoder_attentions", "cross_attentions")
    ]
    across, own = literal.chefer_of_two_stacks(*maps)
    found = explainer(name).explain(
        {**inputs_of(name), "decoder_input_ids": start}, target=TARGET, contrast=CONTRAST, method="chefer"
    )
    assert_close(found.scores, torch.cat([across[-1], own[-1]]), rtol=1e-9, atol=1e-12)
    assert (across[-1] > 0).all()


@pytest.mark.parametrize("name", STACKS)
def test_value_zeroing_equals_its_equation(name):
    expected = literal.value_zeroing(eager(name), inputs_of(name))[reading_row(name)]
    assert_close(explained(name, "value-zeroing").scores, expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", STACKS)
def test_globenc_equals_its_equation(name):
    expected = literal.globenc(eager(name), inputs_of(name))[reading_row(name)]
    assert_close(explained(name, "globenc").scores, expected, rtol=1e-9, atol=1e-12)


def test_value_zeroing_gives_the_same_however_many_tokens_run_together(monkeypatch):
    expected = explained("llama", "value-zeroing").scores
    for at_once in (1, 20):
        monkeypatch.setattr(_value_zeroing, "TOKENS_AT_ONCE", at_once)
        assert_close(explained("llama", "value-zeroing").scores, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", ["value-zeroing", "globenc", "grad-rollout"])
@pytest.mark.parametrize("name", STACKS)
def test_rolled_out_shares_sum_to_one(name, method):
    assert explained(name, method).scores.sum().item() == pytest.approx(1)


def test_the_identity_of_chefer_can_be_left_out():
    whole, rest = explained("gpt2", "chefer").scores, explained("gpt2", Chefer(identity=False)).scores
    assert_close(whole[:-1], rest[:-1])
    assert (whole - rest)[-1].item() == pytest.approx(1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_later_positions_get_exactly_nothing(name, method):
    found = explained(name, method, position=4, target=7, contrast=None).scores
    assert (found[5:] == 0).all()
    assert method == "grad-cam" or (found[:5] != 0).any()


@pytest.mark.parametrize("method", METHODS)
def test_the_predicting_position_is_found_by_structure(method):
    asked = explained("llama", method, position=3, contrast=None)
    found = explained("llama", method, target=lambda output: output.logits[0, 3, TARGET], contrast=None)
    assert_close(found.scores, asked.scores)


@pytest.mark.parametrize("method", ["value-zeroing", "globenc"])
def test_several_predicting_positions_share_alike(method):
    ids = inputs_of("llama")["input_ids"]
    span = explainer("llama").explain(ids[:, :6], target=Span((20, 30)), method=method)
    whole = torch.cat([ids[:, :6], torch.tensor([[20]])], 1)
    rows = [explainer("llama").explain(whole, target=5, position=p, method=method).scores for p in (5, 6)]
    assert_close(span.scores, sum(rows) / 2)


@pytest.mark.parametrize("method", METHODS)
def test_several_targets_are_each_alone(method):
    both = explained("bert_classifier", method, target=["sad", "glad"], contrast=None).scores
    for target, row in zip(["sad", "glad"], both, strict=True):
        assert_close(explained("bert_classifier", method, target=target, contrast=None).scores, row)


@pytest.mark.parametrize("where", ["mlp", "self_attn.v_proj", "self_attn.q_proj"])
@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_mixes_tokens_elsewhere_is_refused(method, where):
    model = build("llama")
    module = model.model.layers[0].get_submodule(where)
    module.register_forward_hook(lambda module, arguments, output: output + output.roll(1, 1))
    with pytest.raises(ApportionError, match="mixes tokens in other ways than attention"):
        Explainer(model, tokenizer()).explain(TEXT, method=method)


@pytest.mark.parametrize("method", METHODS)
def test_attention_that_is_not_what_the_model_computes_is_refused(method, monkeypatch):
    probabilities = Heads.probabilities
    monkeypatch.setattr(Heads, "probabilities", lambda self, scores=None: probabilities(self, scores) ** 1.01)
    with pytest.raises(ApportionError, match="does not compute its attention as softmax"):
        explained("llama", method)


@pytest.mark.parametrize("method", METHODS)
def test_a_model_without_attention_is_refused(method):
    with pytest.raises(ApportionError, match="has no attention"):
        explained("mamba", method)


@pytest.mark.parametrize("method", METHODS[1:])
def test_an_encoder_and_decoder_are_refused_by_what_is_for_one_stack(method):
    with pytest.raises(ApportionError, match="has an encoder and a decoder"):
        explained("t5", method)


def test_a_layer_that_is_not_there_is_refused():
    with pytest.raises(ApportionError, match="use -2 to 1"):
        explained("llama", AttentionGradCAM(layer=2))
    with unchecked(), pytest.raises(ApportionError, match="is no number of a layer"):
        AttentionGradCAM(layer="last")


def test_a_layer_that_does_not_repeat_itself_is_refused():
    model = build("llama")
    calls = []

    def drift(module: Any, arguments: Any, output: Tensor) -> Tensor:
        calls.append(output)
        return output * (1 if len(calls) < 4 else 1.1)

    model.model.layers[1].mlp.register_forward_hook(drift)
    with pytest.raises(ApportionError, match="something else when it runs again"):
        Explainer(model, tokenizer()).explain(TEXT, method=ValueZeroing())


def test_a_layer_that_cannot_run_in_a_batch_is_refused():
    model = build("llama")

    def alone(module: Any, arguments: Any) -> None:
        if len(arguments[0]) > 1:
            raise RuntimeError

    model.model.layers[1].mlp.register_forward_pre_hook(alone)
    with pytest.raises(ApportionError, match="cannot run again alone"):
        Explainer(model, tokenizer()).explain(TEXT, method=ValueZeroing())


def test_a_layer_runs_again_without_what_its_cache_holds():
    made = architectures.build("causal_lm", "granitemoe")
    found = Explainer(made.model).explain(made.inputs, method=ValueZeroing())
    assert found.scores.sum().item() == pytest.approx(1)
