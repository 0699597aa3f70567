"""LRP for GPT-2, literally: an explicit forward that keeps every intermediate, and explicit messages back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import GPT2LMHeadModel

from tests.reference.literal_result import LiteralRelevance
from tests.reference.literal_rules import (
    Composite,
    attention_head,
    attention_head_rule,
    identity_rule,
    layer_norm,
    layer_norm_rule,
    linear_map,
    linear_rule,
    sum_rule,
)

Weights = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Every intermediate of one layer's forward pass that a rule reads."""

    x: Float[Tensor, "seq d_model"]
    x_normed: Float[Tensor, "seq d_model"]
    qkv: Float[Tensor, "seq d_qkv"]
    heads: Float[Tensor, "seq d_model"]
    attention: Float[Tensor, "seq d_model"]
    middle: Float[Tensor, "seq d_model"]
    middle_normed: Float[Tensor, "seq d_model"]
    activation: Float[Tensor, "seq d_mlp"]
    mlp: Float[Tensor, "seq d_model"]
    output: Float[Tensor, "seq d_model"]


def gelu_new(z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""$\frac{z}{2} (1 + \tanh(\sqrt{2/\pi} (z + 0.044715 z^3)))$."""
    return z / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


def columns(head: int, heads: int, d_model: int) -> list[slice]:
    """The columns of the joint projection that hold this head's queries, keys and values."""
    d_head = d_model // heads
    return [slice(start + head * d_head, start + (head + 1) * d_head) for start in (0, d_model, 2 * d_model)]


def forward_layer(weights: Weights, name: str, x: Float[Tensor, "seq d_model"], heads: int, eps: float) -> Layer:
    """One block; `name` is the prefix of its weights."""

    def project(site: str, source: Tensor) -> Tensor:  # GPT-2 stores its matrices as [d_in, d_out]
        return linear_map(source, weights[f"{name}.{site}.weight"].T, weights[f"{name}.{site}.bias"])

    x_normed = layer_norm(x, weights[f"{name}.ln_1.weight"], weights[f"{name}.ln_1.bias"], eps)
    qkv = project("attn.c_attn", x_normed)
    merged = torch.zeros_like(x)
    for head in range(heads):
        q, k, v = columns(head, heads, x.shape[-1])
        merged[:, q] = attention_head(qkv[:, q], qkv[:, k], qkv[:, v], causal=True)
    attention = project("attn.c_proj", merged)
    middle = x + attention
    middle_normed = layer_norm(middle, weights[f"{name}.ln_2.weight"], weights[f"{name}.ln_2.bias"], eps)
    activation = gelu_new(project("mlp.c_fc", middle_normed))
    mlp = project("mlp.c_proj", activation)
    return Layer(
        x=x,
        x_normed=x_normed,
        qkv=qkv,
        heads=merged,
        attention=attention,
        middle=middle,
        middle_normed=middle_normed,
        activation=activation,
        mlp=mlp,
        output=middle + mlp,
    )


def backward_layer(
    weights: Weights,
    name: str,
    layer: Layer,
    heads: int,
    eps: float,
    relevance: Float[Tensor, "seq d_model"],
    composite: Composite,
) -> tuple[Float[Tensor, "seq d_model"], dict[str, float], float]:
    """Messages from one layer's output to its input.

    Returns:
        Relevance of the layer's input, what its biases keep, and what its softmaxes keep.
    """
    biases: dict[str, float] = {}

    def unproject(site: str, source: Tensor, relevance_of_output: Tensor) -> Tensor:
        passed_on, biases[f"{name}.{site}.bias"] = linear_rule(
            source, weights[f"{name}.{site}.weight"].T, weights[f"{name}.{site}.bias"], relevance_of_output
        )
        return passed_on

    def unnorm(site: str, source: Tensor, relevance_of_output: Tensor) -> Tensor:
        passed_on, biases[f"{name}.{site}.bias"] = layer_norm_rule(
            source, weights[f"{name}.{site}.weight"], weights[f"{name}.{site}.bias"], eps, relevance_of_output
        )
        return passed_on

    to_middle, to_mlp = sum_rule([layer.middle, layer.mlp], relevance)
    to_activation = unproject("mlp.c_proj", layer.activation, to_mlp)
    to_middle_normed = unproject("mlp.c_fc", layer.middle_normed, identity_rule(to_activation))
    to_middle = to_middle + unnorm("ln_2", layer.middle, to_middle_normed)

    to_x, to_attention = sum_rule([layer.x, layer.attention], to_middle)
    to_heads = unproject("attn.c_proj", layer.heads, to_attention)
    to_qkv = torch.zeros_like(layer.qkv)
    softmax_remainder = 0.0
    for head in range(heads):
        q, k, v = columns(head, heads, layer.x.shape[-1])
        to_qkv[:, q], to_qkv[:, k], to_qkv[:, v], kept = attention_head_rule(
            layer.qkv[:, q],
            layer.qkv[:, k],
            layer.qkv[:, v],
            to_heads[:, q],
            causal=True,
            composite=composite,
        )
        softmax_remainder += kept
    to_x = to_x + unnorm("ln_1", layer.x, unproject("attn.c_attn", layer.x_normed, to_qkv))
    return to_x, biases, softmax_remainder


def literal_gpt2(
    model: GPT2LMHeadModel,
    input_ids: Int[Tensor, " seq"],
    target: int,
    *,
    position: int = -1,
    composite: Composite,
) -> LiteralRelevance:
    """Relevance of the logit `target` at `position`, straight from the equations.

    Args:
        model: Read for its weights and sizes only; never called.
        input_ids: One sequence.
        target: Index of the logit.
        position: Where the logit is read.
        composite: Which rules share relevance in attention.
    """
    weights = {name: tensor.detach().double() for name, tensor in model.state_dict().items()}
    heads, eps = model.config.n_head, model.config.layer_norm_epsilon
    word_embeddings = weights["transformer.wte.weight"][input_ids]
    position_embeddings = weights["transformer.wpe.weight"][: len(input_ids)]
    layers: list[Layer] = []
    for index in range(model.config.n_layer):
        x = layers[-1].output if layers else word_embeddings + position_embeddings
        layers.append(forward_layer(weights, f"transformer.h.{index}", x, heads, eps))
    final_norm = (weights["transformer.ln_f.weight"], weights["transformer.ln_f.bias"], eps)
    normed = layer_norm(layers[-1].output, *final_norm)
    logits = linear_map(normed, weights["lm_head.weight"], None)

    relevance_of_logits = torch.zeros_like(logits)
    relevance_of_logits[position, target] = logits[position, target]
    to_normed, _ = linear_rule(normed, weights["lm_head.weight"], None, relevance_of_logits)
    biases: dict[str, float] = {}
    relevance, biases["transformer.ln_f.bias"] = layer_norm_rule(layers[-1].output, *final_norm, to_normed)
    softmax_remainder: list[float] = []
    of_layers: list[Tensor] = []
    for index in reversed(range(len(layers))):
        of_layers.insert(0, relevance.sum(-1))
        relevance, biases_here, kept = backward_layer(
            weights, f"transformer.h.{index}", layers[index], heads, eps, relevance, composite
        )
        biases |= biases_here
        softmax_remainder.insert(0, kept)
    to_words, to_positions = sum_rule([word_embeddings, position_embeddings], relevance)
    return LiteralRelevance(
        logits=logits,
        total=float(logits[position, target]),
        tokens=to_words.sum(-1),
        positions=to_positions.sum(-1),
        biases=biases,
        softmax_remainder=tuple(softmax_remainder),
        layers=torch.stack(of_layers),
    )
