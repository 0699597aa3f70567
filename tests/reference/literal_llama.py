"""LRP for Llama, literally: an explicit forward that keeps every intermediate, and explicit messages back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LlamaForCausalLM

from tests.reference.literal_result import LiteralRelevance
from tests.reference.literal_rules import (
    Composite,
    attention_head,
    attention_head_rule,
    identity_rule,
    linear_map,
    linear_rule,
    product_rule,
    rms_norm,
    rms_norm_rule,
    rotation,
    sum_rule,
)

Weights = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The numbers of a Llama that its weights do not show, and the angles of its rotary embedding."""

    layers: int
    heads: int
    key_value_heads: int
    d_head: int
    eps: float
    angles: Float[Tensor, "seq half"]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Every intermediate of one layer's forward pass that a rule reads."""

    x: Float[Tensor, "seq d_model"]
    x_normed: Float[Tensor, "seq d_model"]
    q: Float[Tensor, "seq d_q"]
    k: Float[Tensor, "seq d_kv"]
    v: Float[Tensor, "seq d_kv"]
    q_rotated: Float[Tensor, "seq d_q"]
    k_rotated: Float[Tensor, "seq d_kv"]
    heads: Float[Tensor, "seq d_q"]
    attention: Float[Tensor, "seq d_model"]
    middle: Float[Tensor, "seq d_model"]
    middle_normed: Float[Tensor, "seq d_model"]
    gated: Float[Tensor, "seq d_mlp"]
    mlp: Float[Tensor, "seq d_model"]
    output: Float[Tensor, "seq d_model"]


def columns(head: int, d_head: int) -> slice:
    """The columns of a projection that belong to `head`."""
    return slice(head * d_head, (head + 1) * d_head)


def rotated(x: Float[Tensor, "seq d"], shape: Shape) -> Float[Tensor, "seq d"]:
    """Rotate each head's columns by its position's angles."""
    result = torch.zeros_like(x)
    for head in range(x.shape[-1] // shape.d_head):
        here = columns(head, shape.d_head)
        for position in range(len(x)):
            result[position, here] = rotation(shape.angles[position]) @ x[position, here]
    return result


def rotation_rule(x: Float[Tensor, "seq d"], shape: Shape, relevance: Float[Tensor, "seq d"]) -> Float[Tensor, "seq d"]:
    """Take the relevance of rotated queries or keys back through the rotation, a linear map at each position."""
    result = torch.zeros_like(x)
    for head in range(x.shape[-1] // shape.d_head):
        here = columns(head, shape.d_head)
        for position in range(len(x)):
            at = slice(position, position + 1)
            result[at, here], _ = linear_rule(x[at, here], rotation(shape.angles[position]), None, relevance[at, here])
    return result


def forward_layer(weights: Weights, name: str, x: Float[Tensor, "seq d_model"], shape: Shape) -> Layer:
    """One decoder layer; `name` is the prefix of its weights."""

    def project(site: str, source: Tensor) -> Tensor:
        return linear_map(source, weights[f"{name}.{site}.weight"], weights.get(f"{name}.{site}.bias"))

    x_normed = rms_norm(x, weights[f"{name}.input_layernorm.weight"], shape.eps)
    q, k, v = (project(f"self_attn.{projection}_proj", x_normed) for projection in "qkv")
    q_rotated, k_rotated = rotated(q, shape), rotated(k, shape)
    heads = torch.zeros_like(q)
    for head in range(shape.heads):
        here = columns(head, shape.d_head)
        shared = columns(head * shape.key_value_heads // shape.heads, shape.d_head)
        heads[:, here] = attention_head(q_rotated[:, here], k_rotated[:, shared], v[:, shared], causal=True)
    attention = project("self_attn.o_proj", heads)
    middle = x + attention
    middle_normed = rms_norm(middle, weights[f"{name}.post_attention_layernorm.weight"], shape.eps)
    gate = project("mlp.gate_proj", middle_normed)
    gated = gate / (1 + torch.exp(-gate)) * project("mlp.up_proj", middle_normed)
    mlp = project("mlp.down_proj", gated)
    return Layer(
        x=x,
        x_normed=x_normed,
        q=q,
        k=k,
        v=v,
        q_rotated=q_rotated,
        k_rotated=k_rotated,
        heads=heads,
        attention=attention,
        middle=middle,
        middle_normed=middle_normed,
        gated=gated,
        mlp=mlp,
        output=middle + mlp,
    )


def backward_layer(
    weights: Weights,
    name: str,
    layer: Layer,
    shape: Shape,
    relevance: Float[Tensor, "seq d_model"],
    composite: Composite,
) -> tuple[Float[Tensor, "seq d_model"], dict[str, float], float]:
    """Messages from one layer's output to its input.

    Returns:
        Relevance of the layer's input, what its biases keep, and what its softmaxes keep.
    """
    biases: dict[str, float] = {}

    def unproject(site: str, source: Tensor, relevance_of_output: Tensor) -> Tensor:
        bias = weights.get(f"{name}.{site}.bias")
        passed_on, kept = linear_rule(source, weights[f"{name}.{site}.weight"], bias, relevance_of_output)
        if bias is not None:
            biases[f"{name}.{site}.bias"] = kept
        return passed_on

    to_middle, to_mlp = sum_rule([layer.middle, layer.mlp], relevance)
    to_gated = unproject("mlp.down_proj", layer.gated, to_mlp)
    to_activation, to_up = product_rule(to_gated, composite)
    to_gate = identity_rule(to_activation)
    to_middle_normed = unproject("mlp.gate_proj", layer.middle_normed, to_gate)
    to_middle_normed = to_middle_normed + unproject("mlp.up_proj", layer.middle_normed, to_up)
    to_middle = to_middle + rms_norm_rule(to_middle_normed)

    to_x, to_attention = sum_rule([layer.x, layer.attention], to_middle)
    to_heads = unproject("self_attn.o_proj", layer.heads, to_attention)
    to_q, to_k, to_v = torch.zeros_like(layer.q), torch.zeros_like(layer.k), torch.zeros_like(layer.v)
    softmax_remainder = 0.0
    for head in range(shape.heads):
        here = columns(head, shape.d_head)
        shared = columns(head * shape.key_value_heads // shape.heads, shape.d_head)
        to_q_head, to_k_head, to_v_head, kept = attention_head_rule(
            layer.q_rotated[:, here],
            layer.k_rotated[:, shared],
            layer.v[:, shared],
            to_heads[:, here],
            causal=True,
            composite=composite,
        )
        to_q[:, here] += to_q_head
        to_k[:, shared] += to_k_head
        to_v[:, shared] += to_v_head
        softmax_remainder += kept
    to_x_normed = unproject("self_attn.v_proj", layer.x_normed, to_v)
    to_x_normed = to_x_normed + unproject("self_attn.q_proj", layer.x_normed, rotation_rule(layer.q, shape, to_q))
    to_x_normed = to_x_normed + unproject("self_attn.k_proj", layer.x_normed, rotation_rule(layer.k, shape, to_k))
    return to_x + rms_norm_rule(to_x_normed), biases, softmax_remainder


def literal_llama(
    model: LlamaForCausalLM,
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
        composite: Which rules share relevance in attention and at the gate.
    """
    weights = {name: tensor.detach().double() for name, tensor in model.state_dict().items()}
    config = model.config
    # The model itself takes its angles in float32, so the reference does: they are constants, not a rounding.
    d_head = config.head_dim
    frequencies = 1.0 / config.rope_parameters["rope_theta"] ** (torch.arange(0, d_head, 2).float() / d_head)
    shape = Shape(
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        key_value_heads=config.num_key_value_heads,
        d_head=d_head,
        eps=config.rms_norm_eps,
        angles=torch.arange(len(input_ids)).float()[:, None] * frequencies,
    )
    embeddings = weights["model.embed_tokens.weight"][input_ids]
    layers: list[Layer] = []
    for index in range(shape.layers):
        x = layers[-1].output if layers else embeddings
        layers.append(forward_layer(weights, f"model.layers.{index}", x, shape))
    normed = rms_norm(layers[-1].output, weights["model.norm.weight"], shape.eps)
    logits = linear_map(normed, weights["lm_head.weight"], None)

    relevance_of_logits = torch.zeros_like(logits)
    relevance_of_logits[position, target] = logits[position, target]
    to_normed, _ = linear_rule(normed, weights["lm_head.weight"], None, relevance_of_logits)
    relevance = rms_norm_rule(to_normed)
    biases: dict[str, float] = {}
    softmax_remainder: list[float] = []
    of_layers: list[Tensor] = []
    for index in reversed(range(shape.layers)):
        of_layers.insert(0, relevance.sum(-1))
        relevance, biases_here, kept = backward_layer(
            weights, f"model.layers.{index}", layers[index], shape, relevance, composite
        )
        biases |= biases_here
        softmax_remainder.insert(0, kept)
    return LiteralRelevance(
        logits=logits,
        total=float(logits[position, target]),
        tokens=relevance.sum(-1),
        biases=biases,
        softmax_remainder=tuple(softmax_remainder),
        layers=torch.stack(of_layers),
    )
