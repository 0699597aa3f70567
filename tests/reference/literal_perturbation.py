"""Perturbation methods, literally: one changed input at a time, in plain loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedModel

from tests.reference.literal_llama import Shape, columns, rotated
from tests.reference.literal_rules import linear_map, rms_norm

#: The target's value without the tokens at these places.
Value = Callable[[Sequence[int]], float]


def leave_one_out(value: Value, players: Sequence[int]) -> list[float]:
    """f(x) − f(x without i), for each i."""
    return [value([]) - value([i]) for i in players]


def occlusion(value: Value, players: Sequence[int], window: int, stride: int) -> list[float]:
    """For each player the mean of f(x) − f(x without the window) over the windows that cover it."""
    starts = []
    for start in range(len(players)):
        fits = start + window <= len(players)
        if fits and (start % stride == 0 or start + window == len(players)):
            starts.append(start)
    scores = []
    for i in range(len(players)):
        drops = [value([]) - value(players[s : s + window]) for s in starts if s <= i < s + window]
        scores.append(sum(drops) / len(drops))
    return scores


def by_deleting(model: PreTrainedModel, ids: Sequence[int], row: int | None, target: int, **others: Tensor) -> Value:
    """One output of a model that reads only the tokens that are left.

    Args:
        model: A causal model, a classifier (`row=None`) or an encoder-decoder, whose decoder's tokens are in `others`.
        ids: The whole prompt.
        row: Where the output is read; where that token is absent, at the last one left before it.
        target: Index of the output.
        others: More inputs, which no token is deleted from.
    """

    def value(absent: Sequence[int]) -> float:
        left = [(place, token) for place, token in enumerate(ids) if place not in absent]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[token for _, token in left]]), **others).logits[0]
        if row is None:
            return float(logits[target])
        if "decoder_input_ids" in others:
            return float(logits[row, target])
        before = [place for place, _ in left if place <= row]
        return float(logits[len(before) - 1, target])

    return value


def by_replacing(model: PreTrainedModel, ids: Sequence[int], row: int | None, target: int, token: int) -> Value:
    """One output of a model that reads another token where one is absent."""

    def value(absent: Sequence[int]) -> float:
        read = [token if place in absent else given for place, given in enumerate(ids)]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([read])).logits[0]
        return float(logits[target] if row is None else logits[row, target])

    return value


def atman(model: LlamaForCausalLM, ids: Sequence[int], target: int, suppression: float) -> list[float]:
    """f(x) − f(x with attention to k suppressed), for each k (Deiseroth et al. 2023)."""
    whole = float(suppressed_logits(model, ids, [1.0] * len(ids))[-1, target])
    scores = []
    for k in range(len(ids)):
        factors = [1 - suppression if place == k else 1.0 for place in range(len(ids))]
        scores.append(whole - float(suppressed_logits(model, ids, factors)[-1, target]))
    return scores


def suppressed_logits(
    model: LlamaForCausalLM, ids: Sequence[int], factors: Sequence[float]
) -> Float[Tensor, "seq vocab"]:
    """A Llama's logits, with the scores of each key multiplied by its factor before every softmax."""
    weights = {name: tensor.detach().double() for name, tensor in model.state_dict().items()}
    config = model.config
    shape = Shape(
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        key_value_heads=config.num_key_value_heads,
        d_head=config.head_dim,
        eps=config.rms_norm_eps,
        angles=torch.arange(len(ids)).double()[:, None] * model.model.rotary_emb.inv_freq.double(),
    )
    x = weights["model.embed_tokens.weight"][torch.tensor(ids)]
    for index in range(shape.layers):
        name = f"model.layers.{index}"
        normed = rms_norm(x, weights[f"{name}.input_layernorm.weight"], shape.eps)
        q, k, v = (linear_map(normed, weights[f"{name}.self_attn.{p}_proj.weight"], None) for p in "qkv")
        mixed = _attention(rotated(q, shape), rotated(k, shape), v, shape, factors)
        x = x + linear_map(mixed, weights[f"{name}.self_attn.o_proj.weight"], None)
        normed = rms_norm(x, weights[f"{name}.post_attention_layernorm.weight"], shape.eps)
        gate = linear_map(normed, weights[f"{name}.mlp.gate_proj.weight"], None)
        up = linear_map(normed, weights[f"{name}.mlp.up_proj.weight"], None)
        x = x + linear_map(gate / (1 + torch.exp(-gate)) * up, weights[f"{name}.mlp.down_proj.weight"], None)
    normed = rms_norm(x, weights["model.norm.weight"], shape.eps)
    return linear_map(normed, weights["lm_head.weight"], None)


def _attention(q: Tensor, k: Tensor, v: Tensor, shape: Shape, factors: Sequence[float]) -> Tensor:
    mixed = torch.zeros_like(q)
    for head in range(shape.heads):
        here = columns(head, shape.d_head)
        shared = columns(head * shape.key_value_heads // shape.heads, shape.d_head)
        for query in range(len(q)):
            scores = []
            for key in range(query + 1):
                score = torch.dot(q[query, here], k[key, shared]) / shape.d_head**0.5
                scores.append(score * factors[key])
            exponentials = torch.exp(torch.stack(scores))
            probabilities = exponentials / exponentials.sum()
            for key in range(query + 1):
                mixed[query, here] += probabilities[key] * v[key, shared]
    return mixed
