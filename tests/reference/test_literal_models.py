"""The literal implementations by themselves: they compute what the model computes, and their books balance."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from tests.reference.literal_bert import literal_bert
from tests.reference.literal_gpt2 import literal_gpt2
from tests.reference.literal_llama import literal_llama
from tests.reference.literal_result import LiteralRelevance
from tests.reference.literal_rules import Composite
from tests.reference.without_rounding import without_rounding

INPUT_IDS = torch.tensor([3, 14, 15, 9, 26, 5, 35, 8])
TOKEN_TYPE_IDS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
TARGET = 2
ARCHITECTURES = ["llama", "llama_with_biases", "gpt2", "bert"]
COMPOSITES: list[Composite] = ["attnlrp", "cp_lrp"]


def with_random_weights(model: PreTrainedModel) -> PreTrainedModel:
    """Give every weight and bias of `model` a seeded random value in float64."""
    generator = torch.Generator().manual_seed(1)
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.2 * noise)
    return model


def built(architecture: str) -> PreTrainedModel:
    if architecture.startswith("llama"):
        biased = architecture == "llama_with_biases"
        config = LlamaConfig(
            vocab_size=40,
            hidden_size=16,
            intermediate_size=20,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=6,
            attention_bias=biased,
            mlp_bias=biased,
        )
        return with_random_weights(LlamaForCausalLM(config))
    if architecture == "gpt2":
        return with_random_weights(
            GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=4, n_positions=12))
        )
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=12,
        num_labels=3,
    )
    return with_random_weights(BertForSequenceClassification(config))


def literal(model: PreTrainedModel, composite: Composite, *, position: int = -1) -> LiteralRelevance:
    if isinstance(model, LlamaForCausalLM):
        return literal_llama(model, INPUT_IDS, TARGET, position=position, composite=composite)
    if isinstance(model, GPT2LMHeadModel):
        return literal_gpt2(model, INPUT_IDS, TARGET, position=position, composite=composite)
    assert isinstance(model, BertForSequenceClassification)
    return literal_bert(model, INPUT_IDS, TARGET, token_type_ids=TOKEN_TYPE_IDS, composite=composite)


def logits_of(model: PreTrainedModel) -> Tensor:
    segments = {"token_type_ids": TOKEN_TYPE_IDS[None]} if isinstance(model, BertForSequenceClassification) else {}
    lent = without_rounding(model) if isinstance(model, LlamaForCausalLM) else nullcontext(model)
    with torch.no_grad(), lent:
        return model(INPUT_IDS[None], **segments).logits[0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_forward_equals_the_model(architecture: str) -> None:
    model = built(architecture)
    assert_close(literal(model, "cp_lrp").logits, logits_of(model), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_share_is_accounted_for(architecture: str, composite: Composite) -> None:
    result = literal(built(architecture), composite)
    assert abs(result.residual) < 1e-10
    assert abs(result.total) > 1e-3  # or the test above would say little
    remainder = sum(abs(kept) for kept in result.softmax_remainder)
    assert remainder == 0 if composite == "cp_lrp" else remainder > 1e-3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_bias_has_an_account(architecture: str) -> None:
    model = built(architecture)
    biases = {name for name, _ in model.named_parameters() if name.endswith("bias")}
    assert set(literal(model, "attnlrp").biases) == biases


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("architecture", ["llama_with_biases", "gpt2"])
def test_a_causal_model_gives_nothing_to_what_follows(architecture: str, composite: Composite) -> None:
    result = literal(built(architecture), composite, position=4)
    assert abs(result.residual) < 1e-10
    assert (result.tokens[5:] == 0).all()
    assert (result.tokens[:5] != 0).all()


def test_without_rounding_gives_the_model_back() -> None:
    model = built("llama")
    before = model(INPUT_IDS[None]).logits

    def interrupted() -> None:
        with without_rounding(model):
            assert not torch.equal(model(INPUT_IDS[None]).logits, before)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    assert torch.equal(model(INPUT_IDS[None]).logits, before)
