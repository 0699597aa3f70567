"""A circuit: what each head and neuron reads and writes, made into the weights of a GPT-2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from apportion.evaluation.planted._space import (
    FEATURES,
    PLACES,
    SQUARED_LENGTH,
    directions,
    feature,
    place_features,
    random_rotation,
    word_features,
)
from apportion.evaluation.planted._words import NAMES, START, WORDS

WIDTH, HEADS, NEURONS = 192, 2, 64
D_HEAD = WIDTH // HEADS
#: What a word said with strength 1 adds to its logit, about.
GAIN = 8.0
#: What an MLP without neurons writes.
IDLE = 0.1


@dataclass(frozen=True, kw_only=True)
class AttentionHead:
    """One head; a token's score is (its features · `key`) · (the reader's features · `query` + `bias`).

    Args:
        query: What the reader looks with.
        bias: What every reader looks with.
        key: What a token is known by.
        value: What is taken from a token.
        out: Where it is written.
    """

    query: Float[Tensor, "features dims"]
    bias: Float[Tensor, " dims"]
    key: Float[Tensor, "features dims"]
    value: Float[Tensor, "features taken"]
    out: Float[Tensor, "taken features"]


@dataclass(frozen=True, kw_only=True)
class Neurons:
    """The neurons of one layer.

    Args:
        read: The features that each reads, with weights.
        write: What each writes, times its activation.
    """

    read: Float[Tensor, "features neurons"]
    write: Float[Tensor, "neurons features"]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer: heads, and perhaps neurons.

    Args:
        heads: At most two.
        neurons: None for a layer without; then its MLP writes a constant that nothing reads.
        squared_length: Of the features that the heads read, so that the norm in front of them changes nothing.
    """

    heads: Sequence[AttentionHead]
    neurons: Neurons | None = None
    squared_length: float = SQUARED_LENGTH


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """What a planted model computes; see `model_of`.

    Args:
        layers: From the embeddings to the words said.
        activation: Of the neurons.
    """

    layers: Sequence[Layer]
    activation: Literal["gelu_new", "tanh"] = "gelu_new"


def looking(
    key: Float[Tensor, "features dims"],
    *,
    sharpness: float,
    value: Float[Tensor, "features taken"],
    out: Float[Tensor, "taken features"],
    query: Float[Tensor, "features dims"] | None = None,
    else_start: bool = True,
) -> AttentionHead:
    """A head that looks at the tokens whose key matches, and at the text's start where none does.

    Args:
        key: What a token is known by.
        sharpness: The score of a match; the start has half of it, every other token 0.
        value: What is taken from a token.
        out: Where it is written.
        query: What of the reader must match the key; without it every reader looks for the same.
        else_start: Whether the start is looked at where nothing matches.
    """
    dims = key.shape[1]
    bias = torch.zeros(dims, dtype=torch.float64) if query is not None else torch.ones(dims, dtype=torch.float64)
    query = torch.zeros_like(key) if query is None else query
    if else_start:
        key = torch.cat([key, feature("word")[:, [WORDS.index(START)]]], 1)
        query = torch.cat([query, torch.zeros(FEATURES, 1, dtype=torch.float64)], 1)
        bias = torch.cat([bias, torch.full((1,), 0.5, dtype=torch.float64)])
    return AttentionHead(query=sharpness * query, bias=sharpness * bias, key=key, value=value, out=out)


def model_of(circuit: Circuit, *, seed: int = 0) -> GPT2LMHeadModel:
    """A GPT-2 in float64 that computes a circuit.

    Args:
        circuit: What it computes.
        seed: Of the directions in the residual stream that stand for the features.
    """
    config = GPT2Config(
        vocab_size=len(WORDS),
        n_positions=PLACES,
        n_embd=WIDTH,
        n_layer=len(circuit.layers),
        n_head=HEADS,
        n_inner=NEURONS,
        activation_function=circuit.activation,
        tie_word_embeddings=False,
        bos_token_id=WORDS.index(START),
        eos_token_id=None,
        pad_token_id=WORDS.index("<pad>"),
    )
    model = GPT2LMHeadModel(config).double().eval().requires_grad_(False)
    basis, mixing = directions(WIDTH, seed), random_rotation(D_HEAD, seed)
    for name, parameter in model.named_parameters():
        parameter.fill_(1.0 if "ln_" in name and "weight" in name else 0.0)
    body: Any = model.transformer
    body.wte.weight.copy_(word_features() @ basis.T)
    body.wpe.weight.copy_(place_features() @ basis.T)
    for block, layer in zip(body.h, circuit.layers, strict=True):
        _write_layer(block, layer, basis, mixing)
    _let_through(body.ln_f, SQUARED_LENGTH)
    is_name = torch.tensor([[1.0 if word in NAMES else 0.0] for word in WORDS], dtype=torch.float64)
    model.lm_head.weight.copy_(GAIN * (feature("said").T + is_name @ feature("named").T) @ basis.T)
    return model


def _write_layer(
    block: Any, layer: Layer, basis: Float[Tensor, "width features"], mixing: Float[Tensor, "d_head d_head"]
) -> None:
    """Set the weights of one block; `mixing` spreads what a head takes over all its dimensions."""
    _let_through(block.ln_1, layer.squared_length)
    _let_through(block.ln_2, layer.squared_length)
    inward, bias, outward = block.attn.c_attn.weight, block.attn.c_attn.bias, block.attn.c_proj.weight
    for number, head in enumerate(layer.heads):
        dims, taken = head.key.shape[1], head.value.shape[1]
        query, key, value = (part * WIDTH + number * D_HEAD for part in range(3))
        # GPT-2 divides the scores by the root of the head's width.
        inward[:, query : query + dims] = basis @ head.query * D_HEAD**0.5
        bias[query : query + dims] = head.bias * D_HEAD**0.5
        inward[:, key : key + dims] = basis @ head.key
        inward[:, value : value + D_HEAD] = basis @ head.value @ mixing[:taken]
        outward[number * D_HEAD : (number + 1) * D_HEAD] = mixing[:taken].T @ head.out @ basis.T
    if layer.neurons is None:
        # Methods that take a layer apart must find what its MLP adds.
        block.mlp.c_proj.bias.copy_(IDLE * basis @ feature("idle")[:, 0])
    else:
        count = layer.neurons.read.shape[1]
        block.mlp.c_fc.weight[:, :count] = basis @ layer.neurons.read
        block.mlp.c_proj.weight[:count] = layer.neurons.write @ basis.T


def _let_through(norm: nn.LayerNorm, squared_length: float) -> None:
    """Give a norm the scale at which features of a length come out as they went in."""
    norm.weight.fill_((squared_length / WIDTH + norm.eps) ** 0.5)
