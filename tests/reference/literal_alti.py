"""ALTI, ALTI-Logit and rollout, literally: every head's vector from every token to every token, summed by loops."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import BertForMaskedLM, GPT2LMHeadModel, LlamaForCausalLM, PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer's parts.

    Args:
        x: The stream that comes in.
        attention: Probabilities.
        sent: A_h[t, s] f_h(x_s) by head, receiver t and sender s.
        b_o: What is added once to what all send.
        middle: The stream behind the attention (in BERT behind its norm).
        mlp: What the MLP adds.
        first: BERT's norm behind the attention as a matrix and a bias, by position; the identity elsewhere.
        second: The same of its norm behind the MLP.
    """

    x: Float[Tensor, "n d"]
    attention: Float[Tensor, "head n n"]
    sent: Float[Tensor, "head n n d"]
    b_o: Float[Tensor, " d"]
    middle: Float[Tensor, "n d"]
    mlp: Float[Tensor, "n d"]
    first: tuple[Float[Tensor, "n d d"], Float[Tensor, " d"]]
    second: tuple[Float[Tensor, "n d d"], Float[Tensor, " d"]]


@dataclass(frozen=True, kw_only=True)
class AltiLogit:
    """What the equations give: a score for each token, and the remainder by its origin."""

    scores: Float[Tensor, " n"]
    mlps: float
    attention_biases: float
    norm_biases: float
    output_biases: float

    @property
    def total(self) -> float:
        remainder = self.mlps + self.attention_biases + self.norm_biases + self.output_biases
        return self.scores.sum().item() + remainder


def layers_of(model: PreTrainedModel, ids: Tensor) -> list[Layer]:
    """The parts of every layer. The model must use eager attention, which returns its probabilities."""
    with torch.no_grad():
        output = model(ids[None], output_attentions=True, output_hidden_states=True)
        attentions = [probabilities[0] for probabilities in output.attentions]
        streams = [stream[0] for stream in output.hidden_states]
        parts = {GPT2LMHeadModel: gpt2_layer, LlamaForCausalLM: llama_layer, BertForMaskedLM: bert_layer}[type(model)]
        return [parts(model, k, streams[k], attention) for k, attention in enumerate(attentions)]


def gpt2_layer(model: GPT2LMHeadModel, k: int, x: Tensor, attention: Tensor) -> Layer:
    block = model.transformer.h[k]
    d, heads = x.shape[-1], len(attention)
    w_v, b_v = block.attn.c_attn.weight[:, 2 * d :], block.attn.c_attn.bias[2 * d :]
    values = block.ln_1(x) @ w_v + b_v
    sent = sent_by(attention, values, block.attn.c_proj.weight, list(range(heads)))
    return pre_norm(x, attention, sent, block.attn.c_proj.bias, lambda middle: block.mlp(block.ln_2(middle)))


def llama_layer(model: LlamaForCausalLM, k: int, x: Tensor, attention: Tensor) -> Layer:
    block = model.model.layers[k]
    heads, shared = len(attention), model.config.num_key_value_heads
    values = block.self_attn.v_proj(block.input_layernorm(x))
    sent = sent_by(attention, values, block.self_attn.o_proj.weight.T, [h * shared // heads for h in range(heads)])
    bias = block.self_attn.o_proj.bias
    bias = torch.zeros_like(x[0]) if bias is None else bias
    return pre_norm(x, attention, sent, bias, lambda middle: block.mlp(block.post_attention_layernorm(middle)))


def bert_layer(model: BertForMaskedLM, k: int, x: Tensor, attention: Tensor) -> Layer:
    block = model.bert.encoder.layer[k]
    dense = block.attention.output.dense
    values = block.attention.self.value(x)
    sent = sent_by(attention, values, dense.weight.T, list(range(len(attention))))
    before = x + sent.sum((0, 2)) + dense.bias
    middle = block.attention.output.LayerNorm(before)
    mlp = block.output.dense(block.intermediate(middle))
    return Layer(
        x=x,
        attention=attention,
        sent=sent,
        b_o=dense.bias,
        middle=middle,
        mlp=mlp,
        first=frozen(block.attention.output.LayerNorm, before),
        second=frozen(block.output.LayerNorm, middle + mlp),
    )


def sent_by(attention: Tensor, values: Tensor, w_o: Tensor, key_value_head: list[int]) -> Tensor:
    """A_h[t, s] (V_s W_O^h) for every head, receiver and sender."""
    heads, n, _ = attention.shape
    d_head = len(w_o) // heads
    sent = torch.zeros(heads, n, n, w_o.shape[-1], dtype=values.dtype)
    for h in range(heads):
        first = key_value_head[h] * d_head
        for s in range(n):
            vector = values[s, first : first + d_head] @ w_o[h * d_head : (h + 1) * d_head]
            for t in range(n):
                sent[h, t, s] = attention[h, t, s] * vector
    return sent


def pre_norm(x, attention, sent, b_o, mlp_of) -> Layer:  # type: ignore[no-untyped-def]
    middle = x + sent.sum((0, 2)) + b_o
    identity = torch.eye(x.shape[-1], dtype=x.dtype).expand(len(x), -1, -1), torch.zeros_like(x[0])
    return Layer(
        x=x,
        attention=attention,
        sent=sent,
        b_o=b_o,
        middle=middle,
        mlp=mlp_of(middle),
        first=identity,
        second=identity,
    )


def frozen(norm: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    r"""A norm as $M_t x_t + \beta$, $M_t = \mathrm{diag}(\gamma) (I - 11^T/d) / \sigma_t$; an RMS norm has I alone."""
    d = x.shape[-1]
    centring = torch.eye(d, dtype=x.dtype)
    bias = torch.zeros(d, dtype=x.dtype)
    if isinstance(norm, nn.LayerNorm):
        centring = centring - torch.ones(d, d, dtype=x.dtype) / d
        bias = norm.bias
    eps = norm.eps if isinstance(norm, nn.LayerNorm) else norm.variance_epsilon
    matrices = []
    for row in x:
        sigma = ((centring @ row).pow(2).mean() + eps).sqrt()
        matrices.append(torch.diag(norm.weight) @ centring / sigma)
    return torch.stack(matrices), bias


def brought(layer: Layer, t: int, s: int) -> Float[Tensor, " d"]:
    """T_t(x_s): what position s brings to the stream at t."""
    vector = layer.sent[:, t, s].sum(0)
    if s == t:
        vector = vector + layer.x[t]
    return layer.first[0][t] @ vector


def contributions(layer: Layer) -> Float[Tensor, "n n"]:
    """C: relu(‖y_t‖₁ − ‖y_t − T_t(x_s)‖₁), rows scaled to sum 1."""
    n = len(layer.x)
    found = torch.zeros(n, n, dtype=layer.x.dtype)
    for t in range(n):
        y = layer.middle[t]
        for s in range(n):
            found[t, s] = max(0.0, (y.abs().sum() - (y - brought(layer, t, s)).abs().sum()).item())
        found[t] /= found[t].sum()
    return found


def literal_rollout(model: PreTrainedModel, ids: Tensor, row: int, residual: float) -> Float[Tensor, " n"]:
    product = torch.eye(len(ids), dtype=torch.float64)
    for layer in layers_of(model, ids):
        mean = layer.attention.mean(0)
        product = (residual * torch.eye(len(ids), dtype=torch.float64) + (1 - residual) * mean) @ product
    return product[row]


def literal_alti(model: PreTrainedModel, ids: Tensor, row: int) -> Float[Tensor, " n"]:
    product = torch.eye(len(ids), dtype=torch.float64)
    for layer in layers_of(model, ids):
        product = contributions(layer) @ product
    return product[row]


def literal_alti_logit(model: PreTrainedModel, ids: Tensor, row: int, weights: Tensor) -> AltiLogit:
    """The equations of METHODS for the weighted sum of logits at `row`, one layer after the other from below."""
    layers = layers_of(model, ids)
    with torch.no_grad():
        g, output_biases = direction(model, layers, row, weights)
        directions: list[Tensor] = []
        mlps = attention_biases = norm_biases = 0.0
        for layer in reversed(layers):
            norm_biases += (layer.second[1] @ g).item()
            g = layer.second[0][row].T @ g
            mlps += (layer.mlp[row] @ g).item()
            norm_biases += (layer.first[1] @ g).item()
            g = layer.first[0][row].T @ g
            attention_biases += (layer.b_o @ g).item()
            directions.insert(0, g)
        scores = torch.zeros(len(ids), dtype=torch.float64)
        scores[row] = layers[0].x[row] @ directions[0]
        mixing = torch.eye(len(ids), dtype=torch.float64)
        for layer, g in zip(layers, directions, strict=True):
            c = torch.stack([sum(layer.sent[h, row, s] @ g for h in range(len(layer.sent))) for s in range(len(ids))])
            scores = scores + c @ mixing
            mixing = contributions(layer) @ mixing
    return AltiLogit(
        scores=scores,
        mlps=mlps,
        attention_biases=attention_biases,
        norm_biases=norm_biases,
        output_biases=output_biases,
    )


def direction(model: PreTrainedModel, layers: list[Layer], row: int, weights: Tensor) -> tuple[Tensor, float]:
    """The logits' direction at the last layer's output, and what the biases behind it add."""
    last = layers[-1]
    if isinstance(model, BertForMaskedLM):
        head = model.cls.predictions
        stream = last.second[0][row] @ (last.middle[row] + last.mlp[row]) + last.second[1]
        z = head.transform.dense(stream)
        activated = nn.functional.gelu(z)
        matrix, bias = frozen(head.transform.LayerNorm, activated[None])
        g = head.decoder.weight.T @ weights
        biases = head.decoder.bias @ weights + bias @ g
        g = (activated / z) * (matrix[0].T @ g)
        return head.transform.dense.weight.T @ g, (biases + head.transform.dense.bias @ g).item()
    norm = model.transformer.ln_f if isinstance(model, GPT2LMHeadModel) else model.model.norm
    matrix, bias = frozen(norm, (last.middle + last.mlp)[row : row + 1])
    u = model.lm_head.weight.T @ weights
    return matrix[0].T @ u, (bias @ u).item()
