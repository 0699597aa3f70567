"""Variants of LRP written as their papers' code writes them: each model's forward pass by hand, with detached factors.

A factor that is detached passes no gradient, so the gradient times the input of these functions is the relevance. No
code is shared with the engine; sums over places, heads and states are loops where that is bearable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LlamaForCausalLM, MambaForCausalLM


class _Softened(torch.autograd.Function):
    """Values of a softmax, and GIM's derivative: that of a softmax at another temperature, without the factor 1/T."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, temperature: float) -> Tensor:
        ctx.save_for_backward(scores)
        ctx.temperature = temperature
        return scores.softmax(-1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (scores,) = ctx.saved_tensors
        s = (scores / ctx.temperature).softmax(-1)
        passed = torch.zeros_like(s)
        for i in range(s.shape[-1]):
            for j in range(s.shape[-1]):
                passed[..., i] += s[..., j] * (float(i == j) - s[..., i]) * grad[..., j]
        return passed, None


def halved(x: Tensor) -> Tensor:
    """x, passing on half of its gradient."""
    return x / 2 + (x / 2).detach()


def residual_sum(a: Tensor, b: Tensor, gamma: float) -> Tensor:
    r"""a + b, shared by $R_a = w(a) a / (w(a) a + w(b) b) R$ with $w(z) = 1 + \gamma [z y > 0]$, one by one."""
    to_a, to_b = torch.ones_like(a), torch.ones_like(b)
    for place in torch.cartesian_prod(*(torch.arange(n) for n in a.shape)).tolist():
        at = tuple(place)
        one, other = a[at].item(), b[at].item()
        y = one + other
        w_one, w_other = (1 + gamma if z * y > 0 else 1.0 for z in (one, other))
        weighted = w_one * one + w_other * other
        to_a[at], to_b[at] = w_one * y / weighted, w_other * y / weighted
    return a * to_a + b * to_b


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Which variant of the backward pass to write down.

    Args:
        temperature: Of the softmax's derivative; None holds attention weights constant.
        activation: Identity rule or the activation's own derivative.
        residual: γ of residual sums; None for plain sums.
        rotation: Whether cosines and sines get shares.
    """

    temperature: float | None = 1.0
    activation: Literal["identity", "gradient"] = "identity"
    residual: float | None = None
    rotation: bool = False


@dataclass
class ByHand:
    """What a pass by hand leaves: the target, the embeddings, cosines and sines, and every MLP's output."""

    target: Tensor
    embeddings: Tensor
    turns: tuple[Tensor, Tensor] | None = None
    mlps: list[Tensor] = field(default_factory=list)

    def gradient(self, of: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(self.target, of, retain_graph=True)
        return found

    def tokens(self) -> Tensor:
        """Relevance of each token."""
        return (self.embeddings * self.gradient(self.embeddings)).sum(-1).detach()

    def positions(self) -> Tensor:
        """Relevance of each place's cosines and sines."""
        assert self.turns is not None
        return torch.stack([(turn * self.gradient(turn)).sum(-1) for turn in self.turns]).sum(0).detach()


def rms_norm(x: Float[Tensor, "seq d"], weight: Float[Tensor, " d"], eps: float) -> Float[Tensor, "seq d"]:
    """With the root mean square detached."""
    return weight * x * (x.pow(2).mean(-1, keepdim=True) + eps).rsqrt().detach()


def half_turned(x: Float[Tensor, "seq d"]) -> Float[Tensor, "seq d"]:
    half = x.shape[-1] // 2
    return torch.cat([-x[:, half:], x[:, :half]], -1)


def silu(x: Tensor, activation: str) -> Tensor:
    return x * torch.sigmoid(x).detach() if activation == "identity" else x * torch.sigmoid(x)


def literal_llama(model: LlamaForCausalLM, ids: Int[Tensor, " seq"], target: int, rules: Rules) -> ByHand:
    """A Llama without biases by hand; the target is a logit at the last place."""
    config, w = model.config, {name: p.detach() for name, p in model.named_parameters()}
    x = embeddings = w["model.embed_tokens.weight"][ids].clone().requires_grad_(True)
    places = torch.arange(len(ids))[None]
    cos, sin = (turn[0].detach().requires_grad_(rules.rotation) for turn in model.model.rotary_emb(x[None], places))
    mlps = []

    def turned(z: Tensor) -> Tensor:
        if rules.rotation:
            return halved(z * cos) + halved(half_turned(z) * sin)
        return z * cos + half_turned(z) * sin

    def joined(a: Tensor, b: Tensor) -> Tensor:
        return a + b if rules.residual is None else residual_sum(a, b, rules.residual)

    hidden_ahead = torch.ones(len(ids), len(ids), dtype=torch.bool).triu(1)
    size = config.head_dim
    for layer in range(config.num_hidden_layers):
        name = f"model.layers.{layer}"
        normed = rms_norm(x, w[f"{name}.input_layernorm.weight"], config.rms_norm_eps)
        q, k, v = (normed @ w[f"{name}.self_attn.{p}_proj.weight"].T for p in "qkv")
        heads = []
        for head in range(config.num_attention_heads):
            shared = head * config.num_key_value_heads // config.num_attention_heads
            here, there = slice(head * size, (head + 1) * size), slice(shared * size, (shared + 1) * size)
            scores = halved(turned(q[:, here]) @ turned(k[:, there]).T * size**-0.5)
            scores = scores.masked_fill(hidden_ahead, -torch.inf)
            if rules.temperature is None:
                heads.append(scores.softmax(-1).detach() @ v[:, there])
            else:
                heads.append(halved(_Softened.apply(scores, rules.temperature) @ v[:, there]))
        x = joined(x, torch.cat(heads, -1) @ w[f"{name}.self_attn.o_proj.weight"].T)
        normed = rms_norm(x, w[f"{name}.post_attention_layernorm.weight"], config.rms_norm_eps)
        gate, up = (normed @ w[f"{name}.mlp.{p}_proj.weight"].T for p in ("gate", "up"))
        mlp = halved(silu(gate, rules.activation) * up) @ w[f"{name}.mlp.down_proj.weight"].T
        mlps.append(mlp)
        x = joined(x, mlp)
    x = rms_norm(x, w["model.norm.weight"], config.rms_norm_eps)
    turns = (cos, sin) if rules.rotation else None
    return ByHand((x @ w["lm_head.weight"].T)[-1, target], embeddings, turns, mlps)


def literal_mamba(model: MambaForCausalLM, ids: Int[Tensor, " seq"], target: int, *, held: bool) -> ByHand:
    """A Mamba by hand; with `held` as MambaLRP, which detaches Ā, B̄ and C, else with B and C as factors by halves."""
    config, w = model.config, {name: p.detach() for name, p in model.named_parameters()}
    x = embeddings = w["backbone.embeddings.weight"][ids].clone().requires_grad_(True)
    count = len(ids)
    for layer in range(config.num_hidden_layers):
        name = f"backbone.layers.{layer}"
        of = lambda part, name=name: w[f"{name}.mixer.{part}"]  # noqa: E731
        projected = rms_norm(x, w[f"{name}.norm.weight"], config.layer_norm_epsilon) @ of("in_proj.weight").T
        inner, gate = projected.chunk(2, -1)
        kernel = of("conv1d.weight")[:, 0]
        rows = []
        for t in range(count):
            row = of("conv1d.bias")
            for back in range(min(t + 1, kernel.shape[1])):
                row = row + inner[t - back] * kernel[:, -1 - back]
            rows.append(row)
        inner = silu(torch.stack(rows), "identity")
        steps, b, c = (inner @ of("x_proj.weight").T).split(
            [config.time_step_rank, config.state_size, config.state_size], -1
        )
        step = torch.nn.functional.softplus(steps @ of("dt_proj.weight").T + of("dt_proj.bias")).detach()
        if held:
            b, c = b.detach(), c.detach()
        decay = -of("A_log").exp()
        state = torch.zeros(inner.shape[-1], config.state_size, dtype=inner.dtype)
        rows = []
        for t in range(count):
            entering = step[t, :, None] * b[t] * inner[t, :, None]
            state = (step[t, :, None] * decay).exp() * state + (entering if held else halved(entering))
            read = (state * c[t]).sum(-1)
            rows.append((read if held else halved(read)) + of("D") * inner[t])
        x = x + halved(torch.stack(rows) * silu(gate, "identity")) @ of("out_proj.weight").T
    x = rms_norm(x, w["backbone.norm_f.weight"], config.layer_norm_epsilon)
    return ByHand((x @ model.lm_head.weight.detach().T)[-1, target], embeddings)


def gamma_rule(
    x: Float[Tensor, "seq d_in"],
    weight: Float[Tensor, "d_out d_in"],
    bias: Float[Tensor, " d_out"],
    relevance: Float[Tensor, "seq d_out"],
    gamma: float | None,
) -> tuple[Float[Tensor, "seq d_in"], Float[Tensor, " d_out"]]:
    r"""$R_i = \sum_j v_{ij} z_{ij} / \sum_k v_{kj} z_{kj} R_j$ with $v = 1 + \gamma [z_{ij} z_j > 0]$ (1 and 0 for z⁺).

    Returns:
        Relevance of the inputs, and of the bias (summed over places), which is one of the contributions z.
    """
    to_x, to_bias = torch.zeros_like(x), torch.zeros_like(bias)
    for t in range(len(x)):
        for j in range(len(weight)):
            contributions = [x[t, i].item() * weight[j, i].item() for i in range(x.shape[1])] + [bias[j].item()]
            z = sum(contributions)
            matching = [c * z > 0 for c in contributions]
            v = [float(m) if gamma is None else 1 + gamma * m for m in matching]
            whole = sum(a * c for a, c in zip(v, contributions, strict=True))
            for i in range(x.shape[1]):
                to_x[t, i] += v[i] * contributions[i] / whole * relevance[t, j]
            to_bias[j] += v[-1] * contributions[-1] / whole * relevance[t, j]
    return to_x, to_bias
