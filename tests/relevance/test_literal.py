"""The engine against the literal implementations: every line of the books, model by model, rule by rule."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import BertForSequenceClassification, GPT2LMHeadModel, LlamaForCausalLM, PreTrainedModel

from apportion.relevance import ATTNLRP, CP_LRP, Composite, Propagated, record
from tests.reference.literal_bert import literal_bert
from tests.reference.literal_gpt2 import literal_gpt2
from tests.reference.literal_llama import literal_llama
from tests.reference.literal_result import LiteralRelevance
from tests.reference.without_rounding import without_rounding
from tests.tiny import InFloat64, build

INPUT_IDS = torch.tensor([3, 14, 15, 9, 26, 5, 35, 8])
SEGMENTS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
TARGET = 2
MODELS = ("llama", "llama_with_biases", "gpt2", "bert_classifier")
ATTENTIONS = ("eager", "sdpa")
COMPOSITES = {"attnlrp": ATTNLRP, "cp_lrp": CP_LRP}


def literal(model: PreTrainedModel, composite: Literal["attnlrp", "cp_lrp"], position: int) -> LiteralRelevance:
    if isinstance(model, LlamaForCausalLM):
        return literal_llama(model, INPUT_IDS, TARGET, position=position, composite=composite)
    if isinstance(model, GPT2LMHeadModel):
        return literal_gpt2(model, INPUT_IDS, TARGET, position=position, composite=composite)
    assert isinstance(model, BertForSequenceClassification)
    return literal_bert(model, INPUT_IDS, TARGET, token_type_ids=SEGMENTS, composite=composite)


def propagated(
    model: PreTrainedModel, attention: str, composite: Composite, position: int, *, exact: bool
) -> Propagated:
    """Relevance of the target's logit times 1: as the engine gives it, in float64 throughout when `exact`."""
    inputs = {"input_ids": INPUT_IDS[None]}
    if isinstance(model, BertForSequenceClassification):
        inputs["token_type_ids"] = SEGMENTS[None]
    with ExitStack() as stack:
        if exact and isinstance(model, LlamaForCausalLM):
            # The angles stay in float32, as in the literal version.
            stack.enter_context(without_rounding(model))
            if attention == "eager":
                stack.enter_context(InFloat64(softmax_only=True))
        model.set_attn_implementation(attention)
        trace = record(model, inputs)
        seed = torch.zeros_like(trace.output.logits)
        seed[(0, TARGET) if seed.ndim == 2 else (0, position, TARGET)] = 1
        return trace.propagate(trace.output.logits, seed[None], composite)


def by_role(result: Propagated, role: str) -> Tensor:
    """The one leaf of a role, without its axes of targets and batch."""
    (amount,) = [a for name, a in result.relevance.items() if result.leaves[name].role == role and a.ndim > 1]
    return amount.reshape(amount.shape[-1])


def agree(result: Propagated, expected: LiteralRelevance, rtol: float) -> None:
    """Compare every account, each against the size of the target."""
    books = result.ledger
    assert books is not None
    close = {"rtol": rtol, "atol": rtol * max(abs(expected.total), float(expected.tokens.abs().max()))}
    assert_close(by_role(result, "tokens"), expected.tokens, **close)
    if expected.positions is not None:
        assert_close(by_role(result, "positions"), expected.positions, **close)
    if expected.token_types is not None:
        assert_close(by_role(result, "token types"), expected.token_types, **close)
    found = {name: amount.item() for name, amount in books.details.get("biases", {}).items()}
    assert_close({**dict.fromkeys(expected.biases, 0.0), **found}, dict(expected.biases), **close)
    kept = [books.lines.get(f"softmax remainder, {layer}", torch.zeros(1)).item() for layer in layers(books.lines)]
    assert_close(kept or [0.0] * len(expected.softmax_remainder), list(expected.softmax_remainder), **close)
    assert_close(books.total.item(), expected.total, **close)


def layers(lines: object) -> list[str]:
    """Names of the layers that have a line for their softmax, in order."""
    prefix = "softmax remainder, "
    return sorted(line.removeprefix(prefix) for line in lines if line.startswith(prefix))  # type: ignore[attr-defined]


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", MODELS)
def test_every_account_equals_the_literal_version(name, attention, composite):
    model = build(name)
    result = propagated(model, attention, COMPOSITES[composite], -1, exact=True)
    agree(result, literal(model, composite, -1), 1e-10)


@pytest.mark.parametrize("composite", COMPOSITES)
def test_a_logit_in_the_middle_equals_the_literal_version(composite):
    model = build("gpt2")
    result = propagated(model, "sdpa", COMPOSITES[composite], 4, exact=True)
    agree(result, literal(model, composite, 4), 1e-10)
    assert (by_role(result, "tokens")[5:] == 0).all()


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_model_s_own_float32_norms_cost_six_digits_at_most(attention):
    model = build("llama")
    agree(propagated(model, attention, ATTNLRP, -1, exact=False), literal(model, "attnlrp", -1), 1e-5)


@pytest.mark.parametrize("name", ["llama_with_biases", "gpt2", "bert_classifier"])
def test_the_softmax_keeps_a_share_under_attnlrp_only(name):
    model = build(name)
    kept = propagated(model, "sdpa", ATTNLRP, -1, exact=True).ledger
    none = propagated(model, "sdpa", CP_LRP, -1, exact=True).ledger
    assert len(layers(kept.lines)) == 2
    assert not layers(none.lines)
