"""Attention maps, literally: from the model's own attentions and their gradients, one entry at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

Attentions = list[Float[Tensor, "head query key"]]


def attentions_and_gradients(
    model: PreTrainedModel, inputs: Mapping[str, Any], target: Callable[[Any], Tensor], which: str = "attentions"
) -> tuple[Attentions, Attentions]:
    """What an eager model returns as its attentions, and the target's derivative by them.

    Args:
        model: Built with `attn_implementation="eager"`.
        inputs: Of one example.
        target: From the model's output to the number that is explained.
        which: `"attentions"`, or one of an encoder-decoder's.
    """
    output = model(**inputs, output_attentions=True)
    found = getattr(output, which)
    gradients = torch.autograd.grad(target(output), found, allow_unused=True)
    return (
        [a[0].detach() for a in found],
        [torch.zeros_like(a[0]) if g is None else g[0] for a, g in zip(found, gradients, strict=True)],
    )


def weighted(attention: Tensor, gradient: Tensor) -> Float[Tensor, "query key"]:
    r"""$\bar A_{ts} = \frac1H \sum_h \max(0, \nabla A_{hts} A_{hts})$ (Chefer et al. 2021, eq. 5)."""
    heads, queries, keys = attention.shape
    result = torch.zeros(queries, keys, dtype=attention.dtype)
    for head in range(heads):
        for t in range(queries):
            for s in range(keys):
                result[t, s] += max(0.0, float(attention[head, t, s] * gradient[head, t, s])) / heads
    return result


def chefer(attentions: Attentions, gradients: Attentions) -> Float[Tensor, "token token"]:
    """R of one stack: from the identity, R ← R + Ā R in each layer (eq. 6)."""
    relevance = torch.eye(attentions[0].shape[-1], dtype=attentions[0].dtype)
    for attention, gradient in zip(attentions, gradients, strict=True):
        relevance = relevance + weighted(attention, gradient) @ relevance
    return relevance


def normalised(relevance: Float[Tensor, "token token"]) -> Float[Tensor, "token token"]:
    """Each row of R − I divided by its sum, plus I (eq. 8-9)."""
    result = torch.eye(len(relevance), dtype=relevance.dtype)
    for i in range(len(relevance)):
        row = relevance[i].clone()
        row[i] -= 1
        if row.sum() > 0:
            result[i] += row / row.sum()
    return result


def chefer_of_two_stacks(
    encoder: tuple[Attentions, Attentions],
    decoder: tuple[Attentions, Attentions],
    cross: tuple[Attentions, Attentions],
) -> tuple[Float[Tensor, "token source"], Float[Tensor, "token token"]]:
    """Relevance of the source's and of the decoder's tokens for the decoder's (eq. 6, 7 and 10)."""
    of_source = chefer(*encoder)
    tokens, source = cross[0][0].shape[1:]
    own = torch.eye(tokens, dtype=of_source.dtype)
    across = torch.zeros(tokens, source, dtype=of_source.dtype)
    for layer in range(len(decoder[0])):
        looking_back = weighted(decoder[0][layer], decoder[1][layer])
        own, across = own + looking_back @ own, across + looking_back @ across
        looking_across = weighted(cross[0][layer], cross[1][layer])
        across = across + normalised(own).T @ looking_across @ normalised(of_source)
    return across, own


def grad_cam(attention: Tensor, gradient: Tensor) -> Float[Tensor, "query key"]:
    """The positive part of the heads' mean, each head times the mean of its gradient."""
    heads, queries, keys = attention.shape
    result = torch.zeros(queries, keys, dtype=attention.dtype)
    for head in range(heads):
        weight = sum(float(gradient[head, t, s]) for t in range(queries) for s in range(keys)) / (queries * keys)
        result += weight * attention[head] / heads
    return result.clamp(min=0)


def grad_rollout(attentions: Attentions, gradients: Attentions) -> Float[Tensor, "token token"]:
    """The product over layers of (mean over heads of ∇A ⊙ A)⁺ + I with rows that sum to 1."""
    result = torch.eye(attentions[0].shape[-1], dtype=attentions[0].dtype)
    for attention, gradient in zip(attentions, gradients, strict=True):
        layer = torch.eye(len(result), dtype=result.dtype)
        for t in range(len(result)):
            for s in range(len(result)):
                layer[t, s] += max(0.0, float((attention[:, t, s] * gradient[:, t, s]).sum()) / len(attention))
            layer[t] = layer[t] / layer[t].sum()
        result = layer @ result
    return result


def layers_of(model: PreTrainedModel) -> list[Any]:
    """The layers of a BERT, a GPT-2 or a Llama."""
    return list(
        {
            "bert": lambda: model.bert.encoder.layer,
            "gpt2": lambda: model.transformer.h,
            "llama": lambda: model.model.layers,
        }[model.config.model_type]()
    )


def output_of_layer(model: PreTrainedModel, layer: int, inputs: Mapping[str, Any]) -> Float[Tensor, "token d"]:
    """What a layer passes on when the whole model runs."""
    found = []
    hook = layers_of(model)[layer].register_forward_hook(
        lambda m, i, o: found.append(o[0] if isinstance(o, tuple) else o)
    )
    with torch.no_grad():
        model(**inputs)
    hook.remove()
    return found[0][0]


def with_value_zeroed(
    model: PreTrainedModel, layer: int, token: int, inputs: Mapping[str, Any]
) -> Float[Tensor, "token d"]:
    """What a layer passes on when the value vector of one token is 0 in it."""
    block, kind = layers_of(model)[layer], model.config.model_type

    def zero(module: Any, arguments: Any, output: Tensor) -> Tensor:
        output = output.clone()
        output[0, token, output.shape[-1] * 2 // 3 if kind == "gpt2" else 0 :] = 0
        return output

    projection = {
        "bert": lambda: block.attention.self.value,
        "gpt2": lambda: block.attn.c_attn,
        "llama": lambda: block.self_attn.v_proj,
    }[kind]()
    hook = projection.register_forward_hook(zero)
    found = output_of_layer(model, layer, inputs)
    hook.remove()
    return found


def value_zeroing(model: PreTrainedModel, inputs: Mapping[str, Any]) -> Float[Tensor, "token token"]:
    """The product over layers of 1 − cos(output without a value, output), rows divided by their sums."""
    length = inputs["input_ids"].shape[1]
    result = torch.eye(length, dtype=torch.float64)
    for layer in range(len(layers_of(model))):
        before = output_of_layer(model, layer, inputs)
        changes = torch.zeros(length, length, dtype=torch.float64)
        for s in range(length):
            after = with_value_zeroed(model, layer, s, inputs)
            for t in range(length):
                changes[t, s] = 1 - torch.cosine_similarity(after[t], before[t], dim=0)
        result = changes / changes.sum(-1, keepdim=True) @ result
    return result


def frozen_layer_norm(vector: Tensor, module: Any, before: Tensor) -> Tensor:
    """A layer norm with the deviation of what really came in, without its bias."""
    return module.weight * (vector - vector.mean()) / (before.var(correction=0) + module.eps).sqrt()


def globenc(model: PreTrainedModel, inputs: Mapping[str, Any]) -> Float[Tensor, "token token"]:
    """The product over layers of ‖T_t(x_s)‖ behind both norms, rows divided by their sums."""
    kind, layers = model.config.model_type, layers_of(model)
    seen: dict[Any, Tensor] = {}
    hooks = [m.register_forward_pre_hook(lambda m, i: seen.update({m: i[0]}) if i else None) for m in model.modules()]
    with torch.no_grad():
        attentions = model(**inputs, output_attentions=True).attentions
        for hook in hooks:
            hook.remove()
        length = inputs["input_ids"].shape[1]
        result = torch.eye(length, dtype=torch.float64)
        for layer, attention in zip(layers, attentions, strict=True):
            norms = torch.zeros(length, length, dtype=torch.float64)
            for t in range(length):
                for s in range(length):
                    sent = sent_by_heads(layer, kind, attention[0, :, t, s], seen[layer][0, s])
                    sent = sent + seen[layer][0, t] if t == s else sent
                    if kind == "bert":
                        for norm in (layer.attention.output.LayerNorm, layer.output.LayerNorm):
                            sent = frozen_layer_norm(sent, norm, seen[norm][0, t])
                    norms[t, s] = sent.norm()
            result = norms / norms.sum(-1, keepdim=True) @ result
    return result


def sent_by_heads(
    layer: Any, kind: str, weights: Float[Tensor, " head"], x: Float[Tensor, " d"]
) -> Float[Tensor, " d"]:
    """Σ_h A_h f_h(x): what one token sends to another in a layer's attention."""
    if kind == "bert":
        value = layer.attention.self.value(x)
        output = layer.attention.output.dense.weight.T
    elif kind == "gpt2":
        value = layer.attn.c_attn(layer.ln_1(x)[None])[0, 2 * len(x) :]
        output = layer.attn.c_proj.weight
    else:
        value = layer.self_attn.v_proj(layer.input_layernorm(x))
        output = layer.self_attn.o_proj.weight.T
    d_head = len(output) // len(weights)
    sharing = len(output) // len(value)
    sent = torch.zeros_like(x)
    for head, weight in enumerate(weights):
        first = head // sharing * d_head
        sent += weight * value[first : first + d_head] @ output[head * d_head : (head + 1) * d_head]
    return sent
