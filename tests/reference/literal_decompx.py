"""DecompX, literally: one vector per token and place, carried through a BERT, a GPT-2 or a Llama layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from tests.reference import literal_bert, literal_gpt2, literal_llama
from tests.reference.literal_rules import layer_norm, linear_map, visible_keys

Weights = dict[str, Tensor]
#: By component and place; the component behind the tokens' is that of the biases.
Vectors = Float[Tensor, "component seq d"]
Sharing = Literal["token", "absdot"]


def with_bias(vectors: Vectors, bias: Tensor | None, sharing: Sharing) -> Vectors:
    r"""Divide a bias at each place: all to its own component, or by $|b \cdot v_k| / \sum_j |b \cdot v_j|$."""
    if bias is None:
        return vectors
    result = vectors.clone()
    for t in range(vectors.shape[1]):
        if sharing == "token":
            result[-1, t] += bias
            continue
        sizes = [abs(float(bias @ vectors[k, t])) for k in range(len(vectors) - 1)]
        for k, size in enumerate(sizes):
            result[k, t] += size / sum(sizes) * bias
    return result


def mapped(vectors: Vectors, weight: Tensor, bias: Tensor | None, sharing: Sharing) -> Vectors:
    """A linear map of each vector, its bias divided."""
    return with_bias(torch.stack([v @ weight.T for v in vectors]), bias, sharing)


def normed(vectors: Vectors, before: Tensor, weight: Tensor, bias: Tensor, eps: float, sharing: Sharing) -> Vectors:
    """A layer norm of each vector with the deviation of what really came in, its bias divided."""
    result = torch.zeros_like(vectors)
    for k in range(len(vectors)):
        for t in range(vectors.shape[1]):
            sigma = (((before[t] - before[t].mean()) ** 2).mean() + eps).sqrt()
            result[k, t] = weight * (vectors[k, t] - vectors[k, t].mean()) / sigma
    return with_bias(result, bias, sharing)


def scaled(vectors: Vectors, before: Tensor, weight: Tensor, eps: float) -> Vectors:
    """An RMS norm of each vector with the root mean square of what really came in."""
    return torch.stack([weight * v / ((before**2).mean(-1, keepdim=True) + eps).sqrt() for v in vectors])


def attention_weights(q: Tensor, k: Tensor, *, causal: bool) -> Float[Tensor, "query key"]:
    """One head's attention."""
    weights = torch.zeros(len(q), len(k), dtype=q.dtype)
    for t in range(len(q)):
        visible = visible_keys(t, len(k), causal=causal)
        weights[t, visible] = torch.softmax(k[visible] @ q[t] / math.sqrt(q.shape[-1]), -1)
    return weights


def attended(
    vectors: Vectors, heads: list[tuple[Tensor, Tensor, Tensor, Tensor]], length: int
) -> Float[Tensor, "component seq d"]:
    """What the heads send of each component, without biases.

    Args:
        vectors: What the values are made of.
        heads: For each head its attention, W_V (d_head, d), b_V and W_O (d, d_head).
        length: Number of places.
    """
    result = torch.zeros(len(vectors), length, len(heads[0][3]), dtype=vectors.dtype)
    for attention, w_v, _, w_o in heads:
        for k in range(len(vectors)):
            for t in range(length):
                for s in range(length):
                    result[k, t] += attention[t, s] * (w_o @ (w_v @ vectors[k, s]))
    return result


def bias_of_heads(heads: list[tuple[Tensor, Tensor, Tensor, Tensor]], b_o: Tensor) -> Tensor:
    """W_O b_V + b_O, since a head's attention sums to 1."""
    return b_o + sum(w_o @ b_v for _, _, b_v, w_o in heads)


def begin(x: Float[Tensor, "seq d"]) -> Vectors:
    """What stands at each place is that token's."""
    vectors = torch.zeros(len(x) + 1, *x.shape, dtype=x.dtype)
    for k in range(len(x)):
        vectors[k, k] = x[k]
    return vectors


def weights_of(model: PreTrainedModel) -> Weights:
    """The parameters by name."""
    return {name: tensor.detach().double() for name, tensor in model.state_dict().items()}


def bert(
    model: PreTrainedModel, ids: Int[Tensor, " seq"], target: int, sharing: Sharing
) -> Float[Tensor, " component"]:
    """Shares of a class logit of a BERT classifier."""
    w, h, eps = weights_of(model), model.config.num_attention_heads, model.config.layer_norm_eps
    embedded = (
        w["bert.embeddings.word_embeddings.weight"][ids]
        + w["bert.embeddings.position_embeddings.weight"][: len(ids)]
        + w["bert.embeddings.token_type_embeddings.weight"][torch.zeros_like(ids)]
    )
    x = layer_norm(embedded, w["bert.embeddings.LayerNorm.weight"], w["bert.embeddings.LayerNorm.bias"], eps)
    vectors = begin(x)
    for index in range(model.config.num_hidden_layers):
        name = f"bert.encoder.layer.{index}"
        layer = literal_bert.forward_layer(w, name, x, h, eps)
        heads = []
        for head in range(h):
            here = literal_bert.columns(head, h, x.shape[-1])
            heads.append(
                (
                    attention_weights(layer.q[:, here], layer.k[:, here], causal=False),
                    w[f"{name}.attention.self.value.weight"][here],
                    w[f"{name}.attention.self.value.bias"][here],
                    w[f"{name}.attention.output.dense.weight"][:, here],
                )
            )
        b = bias_of_heads(heads, w[f"{name}.attention.output.dense.bias"])
        vectors = with_bias(attended(vectors, heads, len(ids)) + vectors, b, sharing)
        norm = [w[f"{name}.attention.output.LayerNorm.{part}"] for part in ("weight", "bias")]
        middle = normed(vectors, layer.attention + x, *norm, eps, sharing)
        inner = [w[f"{name}.intermediate.dense.{part}"] for part in ("weight", "bias")]
        slope = literal_bert.gelu(linear_map(layer.middle, *inner)) / linear_map(layer.middle, *inner)
        outer = [w[f"{name}.output.dense.{part}"] for part in ("weight", "bias")]
        mlp = mapped(mapped(middle, *inner, sharing) * slope, *outer, sharing)
        norm = [w[f"{name}.output.LayerNorm.{part}"] for part in ("weight", "bias")]
        vectors = normed(middle + mlp, layer.mlp + layer.middle, *norm, eps, sharing)
        x = layer.output
    pooler = (w["bert.pooler.dense.weight"], w["bert.pooler.dense.bias"])
    z = linear_map(x[:1], *pooler)
    pooled = mapped(vectors[:, :1], *pooler, sharing) * (torch.tanh(z) / z)
    return mapped(pooled, w["classifier.weight"], w["classifier.bias"], sharing)[:, 0, target]


def gpt2(
    model: PreTrainedModel, ids: Int[Tensor, " seq"], target: int, sharing: Sharing
) -> Float[Tensor, " component"]:
    """Shares of a logit at the last place of a GPT-2."""
    w, h, eps = weights_of(model), model.config.n_head, model.config.layer_norm_epsilon
    x = w["transformer.wte.weight"][ids] + w["transformer.wpe.weight"][: len(ids)]
    vectors = begin(x)
    for index in range(model.config.n_layer):
        name = f"transformer.h.{index}"
        layer = literal_gpt2.forward_layer(w, name, x, h, eps)
        heads = []
        for head in range(h):
            q, k, v = literal_gpt2.columns(head, h, x.shape[-1])
            heads.append(
                (
                    attention_weights(layer.qkv[:, q], layer.qkv[:, k], causal=True),
                    w[f"{name}.attn.c_attn.weight"].T[v],
                    w[f"{name}.attn.c_attn.bias"][v],
                    w[f"{name}.attn.c_proj.weight"].T[:, q],
                )
            )
        u = normed(vectors, x, w[f"{name}.ln_1.weight"], w[f"{name}.ln_1.bias"], eps, sharing)
        b = bias_of_heads(heads, w[f"{name}.attn.c_proj.bias"])
        vectors = with_bias(vectors + attended(u, heads, len(ids)), b, sharing)
        u = normed(vectors, layer.middle, w[f"{name}.ln_2.weight"], w[f"{name}.ln_2.bias"], eps, sharing)
        inner = (w[f"{name}.mlp.c_fc.weight"].T, w[f"{name}.mlp.c_fc.bias"])
        z = linear_map(layer.middle_normed, *inner)
        outer = (w[f"{name}.mlp.c_proj.weight"].T, w[f"{name}.mlp.c_proj.bias"])
        vectors = vectors + mapped(mapped(u, *inner, sharing) * (literal_gpt2.gelu_new(z) / z), *outer, sharing)
        x = layer.output
    vectors = normed(vectors, x, w["transformer.ln_f.weight"], w["transformer.ln_f.bias"], eps, sharing)
    return vectors[:, -1] @ w["lm_head.weight"][target]


def llama(
    model: PreTrainedModel, ids: Int[Tensor, " seq"], target: int, sharing: Sharing
) -> Float[Tensor, " component"]:
    """Shares of a logit at the last place of a Llama."""
    w, config = weights_of(model), model.config
    d_head, eps = config.head_dim, config.rms_norm_eps
    shape = literal_llama.Shape(
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        key_value_heads=config.num_key_value_heads,
        d_head=d_head,
        eps=eps,
        angles=torch.arange(len(ids)).double()[:, None] * model.model.rotary_emb.inv_freq.double(),
    )
    x = w["model.embed_tokens.weight"][ids]
    vectors = begin(x)
    for index in range(shape.layers):
        name = f"model.layers.{index}"
        layer = literal_llama.forward_layer(w, name, x, shape)
        heads = []
        for head in range(shape.heads):
            here = literal_llama.columns(head, d_head)
            shared = literal_llama.columns(head * shape.key_value_heads // shape.heads, d_head)
            bias = w.get(f"{name}.self_attn.v_proj.bias")
            heads.append(
                (
                    attention_weights(layer.q_rotated[:, here], layer.k_rotated[:, shared], causal=True),
                    w[f"{name}.self_attn.v_proj.weight"][shared],
                    torch.zeros(d_head, dtype=x.dtype) if bias is None else bias[shared],
                    w[f"{name}.self_attn.o_proj.weight"][:, here],
                )
            )
        u = scaled(vectors, x, w[f"{name}.input_layernorm.weight"], eps)
        bias = w.get(f"{name}.self_attn.o_proj.bias")
        b = None if bias is None else bias_of_heads(heads, bias)
        vectors = with_bias(vectors + attended(u, heads, len(ids)), b, sharing)
        u = scaled(vectors, layer.middle, w[f"{name}.post_attention_layernorm.weight"], eps)

        def project(source: Callable[..., Tensor], site: str, *values: Tensor | str, name: str = name) -> Tensor:
            weight, bias = w[f"{name}.mlp.{site}.weight"], w.get(f"{name}.mlp.{site}.bias")
            return source(values[0], weight, bias, *values[1:])

        z = project(linear_map, "gate_proj", layer.middle_normed)
        gated = project(mapped, "up_proj", u, sharing) * (z / (1 + torch.exp(-z)))
        vectors = vectors + project(mapped, "down_proj", gated, sharing)
        x = layer.output
    return scaled(vectors, x, w["model.norm.weight"], eps)[:, -1] @ w["lm_head.weight"][target]
