"""A norm as a linear map, with its statistic held fixed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from apportion.models.anatomy._capturing import Call, same, tolerance_of


@dataclass(frozen=True)
class FrozenNorm:
    r"""$N(v)_t = \rho_t\, w \odot (v_t - \bar v_t) + b$ with the statistic $\rho_t = 1/\sigma_t$ held fixed.

    Args:
        path: The module's path.
        centred: Whether the mean is subtracted (LayerNorm) or not (RMSNorm).
        weight: Scale w, (d,).
        bias: b, (d,), or None.
        statistic: ρ by row, (n,), in the captured pass.
    """

    path: str
    centred: bool
    weight: Float[Tensor, " d"]
    bias: Float[Tensor, " d"] | None
    statistic: Float[Tensor, " n"]

    def mapped(self, vectors: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """w ⊙ (v − mean v): the same map for every row, without ρ and b."""
        return (vectors - vectors.mean(-1, keepdim=True) if self.centred else vectors) * self.weight

    def pulled(self, directions: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """The transpose of `mapped`: a direction at the output as one at the input, without ρ."""
        directions = directions * self.weight
        return directions - directions.mean(-1, keepdim=True) if self.centred else directions

    def __call__(self, vectors: Float[Tensor, "n d"], *, bias: bool = False) -> Float[Tensor, "n d"]:
        """ρ w ⊙ (v − mean v), row by row; with b on request."""
        scaled = self.mapped(vectors) * self.statistic[:, None]
        return scaled + self.bias if bias and self.bias is not None else scaled


def frozen_norm(call: Call) -> FrozenNorm | None:
    """The norm that a module computed, or None if no norm with its parameters reproduces its output.

    The statistic is found by fitting one number per row, which covers every ε and kind of variance.
    """
    if not call.is_leaf or call.input.shape != call.output.shape or same(call.input, call.output):
        return None
    d = call.input.shape[-1]
    x, y = call.input.reshape(-1, d).double(), call.output.reshape(-1, d).double()
    bias = next((p for name, p in call.module.named_parameters() if _is_bias(name) and p.shape == (d,)), None)
    without = y if bias is None else y - bias.detach().double()
    for centred in (True, False) if isinstance(call.module, nn.LayerNorm) else (False, True):
        z = x - x.mean(-1, keepdim=True) if centred else x
        for weight in _weights(call.module, call.input[..., 0, :].reshape(-1)[:d]):
            scaled = z * weight.double()
            statistic = (without * scaled).sum(-1) / (scaled * scaled).sum(-1)
            if same(scaled * statistic[:, None], without, tolerance_of(call.output)):
                plain = None if bias is None else bias.detach()
                return FrozenNorm(call.path, centred, weight, plain, statistic.to(call.output.dtype))
    return None


def _weights(module: nn.Module, like: Tensor) -> Iterator[Tensor]:
    """The possible scales of a norm with these parameters; Gemma's norms store the difference to 1."""
    found = [p.detach() for name, p in module.named_parameters() if not _is_bias(name)]
    if not found:
        yield torch.ones_like(like)
    elif len(found) == 1 and found[0].shape == like.shape:
        yield found[0]
        yield 1 + found[0]


def _is_bias(name: str) -> bool:
    return "bias" in name or "beta" in name
