"""Rollout, ALTI and ALTI-Logit against their equations, and that ALTI-Logit's books balance."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import PreTrainedModel

import apportion as ap
from apportion import ALTI, ALTILogit, Explainer, Rollout
from apportion.methods.forward import _alti
from apportion.methods.forward._alti import contributions
from apportion.models.anatomy._anatomy import anatomy
from tests.checking import unchecked
from tests.reference import literal_alti as literal
from tests.tiny import InFloat64, build, inputs_of, tiny, tokenizer

TEXT = "The man who owns the dogs"
LITERAL = ("gpt2", "llama", "llama_with_biases", "bert")
SERVED = ("gpt2", "llama", "llama_with_biases", "qwen2", "gemma2", "mixtral", "qwen2_moe", "bert")
METHODS = ("rollout", "alti", "alti-logit", "alti-logit(remainder='last')")


@pytest.fixture(autouse=True)
def in_float64():
    with InFloat64():
        yield


@cache
def eager(name: str) -> PreTrainedModel:
    """The model with the attention that returns its probabilities."""
    return build(name, attn_implementation="eager")


def ids_of(name: str) -> Tensor:
    return inputs_of(name)["input_ids"][0]


def weights_of(output: int, *contrast: int) -> Tensor:
    weights = torch.zeros(96, dtype=torch.float64)
    weights[output] = 1
    for other in contrast:
        weights[other] = -1 / len(contrast)
    return weights


@pytest.mark.parametrize("row", [6, 2])
@pytest.mark.parametrize("name", LITERAL)
def test_rollout_is_the_product_of_attention_mixed_with_the_identity(name, row):
    residual = 0.5 if row == 6 else 0.2
    expected = literal.literal_rollout(eager(name), ids_of(name), row, residual)
    found = Explainer(tiny(name)).explain(ids_of(name), target=5, position=row, method=Rollout(residual=residual))
    assert_close(found.scores, expected)
    assert found.scores.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("row", [6, 2])
@pytest.mark.parametrize("name", LITERAL)
def test_alti_is_the_product_of_contributions(name, row):
    expected = literal.literal_alti(eager(name), ids_of(name), row)
    found = Explainer(tiny(name)).explain(ids_of(name), target=5, position=row, method="alti")
    assert_close(found.scores, expected)
    assert found.scores.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("numbers", [1, 16 * 7 * 3, 10**6])
@pytest.mark.parametrize("name", LITERAL)
def test_contributions_are_those_of_the_equation_however_they_are_cut(name, numbers, monkeypatch):
    monkeypatch.setattr(_alti, "NUMBERS_AT_ONCE", numbers)
    layers = literal.layers_of(eager(name), ids_of(name))
    for ours, theirs in zip(anatomy(tiny(name), inputs_of(name)).layers, layers, strict=True):
        assert_close(contributions(ours, ours.weights()), literal.contributions(theirs))


@pytest.mark.parametrize("row", [6, 2])
@pytest.mark.parametrize("contrast", [(), (7, 9)])
@pytest.mark.parametrize("name", LITERAL)
def test_alti_logit_equals_the_equations(name, contrast, row):
    expected = literal.literal_alti_logit(eager(name), ids_of(name), row, weights_of(5, *contrast))
    found = Explainer(tiny(name)).explain(
        ids_of(name), target=5, contrast=contrast or None, position=row, method="alti-logit"
    )
    assert_close(found.scores, expected.scores)
    lines = {line: amount.item() for line, amount in found.ledger.lines.items()}
    assert lines.pop("tokens") == pytest.approx(expected.scores.sum().item())
    assert lines.pop("MLPs") == pytest.approx(expected.mlps)
    assert lines.pop("attention biases", 0.0) == pytest.approx(expected.attention_biases)
    assert lines.pop("norm biases", 0.0) == pytest.approx(expected.norm_biases)
    assert lines.pop("output biases", 0.0) == pytest.approx(expected.output_biases)
    assert not lines
    assert expected.total == pytest.approx(found.target.value)


@pytest.mark.parametrize("name", [*SERVED, "bert_classifier", "bert_token_classifier"])
def test_the_books_of_alti_logit_balance_with_their_remainder(name):
    ids, place = ids_of(name), None if name.endswith("classifier") else 4
    place = 4 if name == "bert_token_classifier" else place
    targets = [ap.Target(2, position=place), ap.Target(1, (0, 2), position=place)]
    found = Explainer(tiny(name)).explain(ids, target=targets, method="alti-logit")
    assert bool((found.ledger.relative_residual < 1e-12).all())
    assert_close(found.ledger.lines["tokens"], found.scores.sum(-1))
    last = Explainer(tiny(name)).explain(ids, target=targets, method="alti-logit(remainder='last')")
    assert_close(last.scores.sum(-1), last.ledger.total)
    row = 0 if name == "bert_classifier" else 4
    others = [i for i in range(len(ids)) if i != row]
    assert_close(last.scores[:, others], found.scores[:, others])
    for t, target in enumerate(targets):
        alone = Explainer(tiny(name)).explain(ids, target=target, method="alti-logit")
        assert_close(alone.scores, found.scores[t])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_what_follows_the_predicting_position_gets_nothing(name, method):
    found = Explainer(tiny(name)).explain(ids_of(name), target=5, position=2, method=method)
    assert (found.scores[3:] == 0).all()
    assert (found.scores[:3] != 0).all()


@pytest.mark.parametrize("method", METHODS[:3])
def test_a_classifier_is_followed_from_the_position_that_it_reads(method):
    model = build("bert_classifier")
    with torch.no_grad():  # a first layer and a head that look only at themselves would give the rest nothing
        for layer in model.bert.encoder.layer:
            layer.attention.output.dense.weight.zero_()
    found = Explainer(model).explain(ids_of("bert_classifier"), target=0, method=method)
    if method == "rollout":  # which looks at attention alone
        assert found.scores.argmax() == 0
    else:
        assert_close(found.scores[1:], torch.zeros(6, dtype=torch.float64), atol=1e-12, rtol=0)
        assert found.scores[0].abs() > 1e-3


@pytest.mark.parametrize("unit", ["log-probability", "probability"])
def test_alti_logit_divides_logits_only(unit):
    with pytest.raises(ap.ApportionError, match=f"differences of logits, not {unit}.*use attnlrp"):
        Explainer(tiny("gpt2")).explain(ids_of("gpt2"), target=5, unit=unit, method="alti-logit")
    # The others rank tokens whatever is read of the row.
    assert Explainer(tiny("gpt2")).explain(ids_of("gpt2"), target=5, unit=unit, method="alti").conserves == "no"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["mamba", "t5"])
def test_a_model_without_one_stack_of_attention_is_refused_in_one_line(name, method):
    explainer = Explainer(tiny(name), tokenizer("causal" if name == "mamba" else "seq2seq"))
    with pytest.raises(ap.ApportionError, match="leave-one-out serve") as caught:
        explainer.explain(TEXT, method=method)
    assert "\n" not in str(caught.value)


def test_options_are_checked():
    with unchecked(), pytest.raises(ap.ApportionError, match="from 0 to 1"):
        Rollout(residual=1.5)
    with unchecked(), pytest.raises(ap.ApportionError, match="'apart' or 'last'"):
        ALTILogit(remainder="first")
    assert Rollout().options == {"residual": 0.5}
    assert ALTI().options == {}
    assert ALTILogit().options == {"remainder": "apart"}


def test_a_row_that_nothing_comes_near_to_stays_with_itself(monkeypatch):
    (layer, *_) = anatomy(tiny("gpt2"), inputs_of("gpt2")).layers
    nowhere = torch.zeros_like(layer.weights())
    monkeypatch.setattr(type(layer), "own", lambda self: -self.middle)
    assert_close(contributions(layer, nowhere), torch.eye(7, dtype=torch.float64))


def test_a_span_is_followed_from_all_rows_that_predict_it():
    explainer = Explainer(tiny("llama"), tokenizer())
    span = explainer.explain("the dog", target=ap.Span(" is sad"), method="alti")
    assert len(span.scores) == len(span.features)
    assert math.isclose(span.scores.sum().item(), 1)
