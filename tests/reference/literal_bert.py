"""LRP for the BERT sequence classifier, literally: explicit forward with every intermediate, explicit messages back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import BertForSequenceClassification

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
    q: Float[Tensor, "seq d_model"]
    k: Float[Tensor, "seq d_model"]
    v: Float[Tensor, "seq d_model"]
    heads: Float[Tensor, "seq d_model"]
    attention: Float[Tensor, "seq d_model"]
    middle: Float[Tensor, "seq d_model"]
    activation: Float[Tensor, "seq d_mlp"]
    mlp: Float[Tensor, "seq d_model"]
    output: Float[Tensor, "seq d_model"]


def gelu(z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""$z \Phi(z) = \frac{z}{2} (1 + \mathrm{erf}(z / \sqrt 2))$."""
    return z / 2 * (1 + torch.erf(z / math.sqrt(2)))


def columns(head: int, heads: int, d_model: int) -> slice:
    """The columns of a projection that belong to `head`."""
    return slice(head * d_model // heads, (head + 1) * d_model // heads)


def forward_layer(weights: Weights, name: str, x: Float[Tensor, "seq d_model"], heads: int, eps: float) -> Layer:
    """One post-norm layer; `name` is the prefix of its weights."""

    def project(site: str, source: Tensor) -> Tensor:
        return linear_map(source, weights[f"{name}.{site}.weight"], weights[f"{name}.{site}.bias"])

    def norm(site: str, source: Tensor) -> Tensor:
        return layer_norm(source, weights[f"{name}.{site}.weight"], weights[f"{name}.{site}.bias"], eps)

    q, k, v = (project(f"attention.self.{role}", x) for role in ("query", "key", "value"))
    merged = torch.zeros_like(x)
    for head in range(heads):
        here = columns(head, heads, x.shape[-1])
        merged[:, here] = attention_head(q[:, here], k[:, here], v[:, here], causal=False)
    attention = project("attention.output.dense", merged)
    middle = norm("attention.output.LayerNorm", attention + x)
    activation = gelu(project("intermediate.dense", middle))
    mlp = project("output.dense", activation)
    return Layer(
        x=x,
        q=q,
        k=k,
        v=v,
        heads=merged,
        attention=attention,
        middle=middle,
        activation=activation,
        mlp=mlp,
        output=norm("output.LayerNorm", mlp + middle),
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
            source, weights[f"{name}.{site}.weight"], weights[f"{name}.{site}.bias"], relevance_of_output
        )
        return passed_on

    def unnorm(site: str, source: Tensor, relevance_of_output: Tensor) -> Tensor:
        passed_on, biases[f"{name}.{site}.bias"] = layer_norm_rule(
            source, weights[f"{name}.{site}.weight"], weights[f"{name}.{site}.bias"], eps, relevance_of_output
        )
        return passed_on

    to_sum = unnorm("output.LayerNorm", layer.mlp + layer.middle, relevance)
    to_mlp, to_middle = sum_rule([layer.mlp, layer.middle], to_sum)
    to_activation = unproject("output.dense", layer.activation, to_mlp)
    to_middle = to_middle + unproject("intermediate.dense", layer.middle, identity_rule(to_activation))

    to_sum = unnorm("attention.output.LayerNorm", layer.attention + layer.x, to_middle)
    to_attention, to_x = sum_rule([layer.attention, layer.x], to_sum)
    to_heads = unproject("attention.output.dense", layer.heads, to_attention)
    to_q, to_k, to_v = torch.zeros_like(layer.q), torch.zeros_like(layer.k), torch.zeros_like(layer.v)
    softmax_remainder = 0.0
    for head in range(heads):
        here = columns(head, heads, layer.x.shape[-1])
        to_q[:, here], to_k[:, here], to_v[:, here], kept = attention_head_rule(
            layer.q[:, here],
            layer.k[:, here],
            layer.v[:, here],
            to_heads[:, here],
            causal=False,
            composite=composite,
        )
        softmax_remainder += kept
    for role, to_projection in (("query", to_q), ("key", to_k), ("value", to_v)):
        to_x = to_x + unproject(f"attention.self.{role}", layer.x, to_projection)
    return to_x, biases, softmax_remainder


def literal_bert(
    model: BertForSequenceClassification,
    input_ids: Int[Tensor, " seq"],
    target: int,
    *,
    token_type_ids: Int[Tensor, " seq"] | None = None,
    composite: Composite,
) -> LiteralRelevance:
    """Relevance of the class logit `target`, straight from the equations.

    Args:
        model: Read for its weights and sizes only; never called.
        input_ids: One sequence.
        target: Index of the class.
        token_type_ids: Segment of each token; the first segment throughout by default.
        composite: Which rules share relevance in attention.
    """
    weights = {name: tensor.detach().double() for name, tensor in model.state_dict().items()}
    heads, eps = model.config.num_attention_heads, model.config.layer_norm_eps
    segments = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
    embeddings = [
        weights["bert.embeddings.word_embeddings.weight"][input_ids],
        weights["bert.embeddings.position_embeddings.weight"][: len(input_ids)],
        weights["bert.embeddings.token_type_embeddings.weight"][segments],
    ]
    embedding_norm = (
        weights["bert.embeddings.LayerNorm.weight"],
        weights["bert.embeddings.LayerNorm.bias"],
        eps,
    )
    embedded = embeddings[0] + embeddings[1] + embeddings[2]
    layers: list[Layer] = []
    for index in range(model.config.num_hidden_layers):
        x = layers[-1].output if layers else layer_norm(embedded, *embedding_norm)
        layers.append(forward_layer(weights, f"bert.encoder.layer.{index}", x, heads, eps))
    pooler = (weights["bert.pooler.dense.weight"], weights["bert.pooler.dense.bias"])
    classifier = (weights["classifier.weight"], weights["classifier.bias"])
    first = layers[-1].output[:1]
    pooled = torch.tanh(linear_map(first, *pooler))
    logits = linear_map(pooled, *classifier)

    biases: dict[str, float] = {}
    relevance_of_logits = torch.zeros_like(logits)
    relevance_of_logits[0, target] = logits[0, target]
    to_pooled, biases["classifier.bias"] = linear_rule(pooled, *classifier, relevance_of_logits)
    relevance = torch.zeros_like(layers[-1].output)
    relevance[:1], biases["bert.pooler.dense.bias"] = linear_rule(first, *pooler, identity_rule(to_pooled))
    softmax_remainder: list[float] = []
    of_layers: list[Tensor] = []
    for index in reversed(range(len(layers))):
        of_layers.insert(0, relevance.sum(-1))
        relevance, biases_here, kept = backward_layer(
            weights, f"bert.encoder.layer.{index}", layers[index], heads, eps, relevance, composite
        )
        biases |= biases_here
        softmax_remainder.insert(0, kept)
    to_embedded, biases["bert.embeddings.LayerNorm.bias"] = layer_norm_rule(embedded, *embedding_norm, relevance)
    to_words, to_positions, to_segments = sum_rule(embeddings, to_embedded)
    return LiteralRelevance(
        logits=logits[0],
        total=float(logits[0, target]),
        tokens=to_words.sum(-1),
        positions=to_positions.sum(-1),
        token_types=to_segments.sum(-1),
        biases=biases,
        softmax_remainder=tuple(softmax_remainder),
        layers=torch.stack(of_layers),
    )
