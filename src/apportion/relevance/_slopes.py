"""Secant slopes (f(z) − f(0))/z of element-wise activations, in closed form if possible."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Slope:
    """The secant of an activation through its value at 0.

    Args:
        at: (f(z) − f(0))/z at the node's input.
        at_zero: f(0), which the identity rule treats as a constant; 0 for most activations.
    """

    at: Callable[[], Tensor]
    at_zero: float | Tensor = 0.0


def slope_of(name: str, node: Any, z: Tensor | None = None) -> Slope | None:
    """The slope for an activation's node, or None if its input `z` is needed.

    Autograd keeps only the result of tanh, sigmoid and expm1, from which the input follows unless they saturate.
    """
    if name in _FROM_RESULT:
        forward, inverse, zero, derivative = _FROM_RESULT[name]
        if z is None:
            y = node._saved_result
            if saturated(name, y):
                return None
            return Slope(lambda: _secant(inverse(y), y, zero, derivative), zero)
        return Slope(lambda: _secant(z, forward(z), zero, derivative), zero)
    return _SLOPES[name](node)


def activation_values(name: str, node: Any) -> tuple[Tensor, Tensor]:
    """An activation's input and result; a saturated input only as precisely as the result determines it."""
    if name in _FROM_RESULT:
        y = node._saved_result
        edge = torch.finfo(y.dtype).eps
        low, high = _RANGES[name]
        return _FROM_RESULT[name][1](y.clamp(low + edge, high - edge)), y
    if name == "Glu":
        z = node._saved_self
        return z, F.glu(z, saved_axis(node))
    slope = _SLOPES[name](node)
    z = node.saved_tensors[0] if name == "GeLUFunction" else node._saved_self
    return z, slope.at() * z + slope.at_zero


def saved_axis(node: Any) -> int:
    """The axis that a node saved, which autograd keeps as an unsigned number."""
    axis: int = node._saved_dim
    return axis - 2**64 if axis >= 2**63 else axis


def saturated(name: str, y: Tensor) -> bool:
    """Whether the result no longer determines the input to five digits."""
    # An input of relative error e needs 1 − |y| > eps/e.
    room = torch.finfo(y.dtype).eps * 1e5
    low, high = _RANGES[name]
    return y.numel() > 0 and bool((y.amin() < low + room) | (y.amax() > high - room))


def _secant(z: Tensor, y: Tensor, zero: float | Tensor, derivative: float | Tensor) -> Tensor:
    """(y − f(0))/z, or f′(0) where z is so small that the quotient would be noise."""
    tiny = z.abs() < torch.finfo(z.dtype).eps ** 0.5
    return torch.where(tiny, derivative, (y - zero) / torch.where(tiny, 1.0, z))


_RANGES = {"Tanh": (-1.0, 1.0), "Sigmoid": (0.0, 1.0), "Expm1": (-1.0, math.inf)}
_Curve = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], float, float]
_FROM_RESULT: dict[str, _Curve] = {
    "Tanh": (torch.tanh, torch.atanh, 0.0, 1.0),
    "Sigmoid": (torch.sigmoid, torch.logit, 0.5, 0.25),
    "Expm1": (torch.expm1, torch.log1p, 0.0, 1.0),
}


def _gelu(node: Any) -> Slope:
    z, approximate = node._saved_self, node._saved_approximate
    return Slope(lambda: _gelu_gate(z, approximate))


def _gelu_gate(z: Tensor, approximate: str) -> Tensor:
    if approximate == "tanh":
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    # The normal distribution function, in place after the first step: `torch.special.ndtr` takes half as long again.
    return torch.erf(z * math.sqrt(0.5)).add_(1).mul_(0.5)


def _elu(node: Any) -> Slope:
    z, alpha, scale, inner = node._saved_self, node._saved_alpha, node._saved_scale, node._saved_input_scale
    return Slope(
        lambda: scale * torch.where(z > 0, 1.0, alpha * inner * _secant(z * inner, torch.expm1(z * inner), 0, 1))
    )


def _celu(node: Any) -> Slope:
    z, alpha = node._saved_self, node._saved_alpha
    return Slope(lambda: torch.where(z > 0, 1.0, _secant(z / alpha, torch.expm1(z / alpha), 0, 1)))


def _clamped(low: str, high: str) -> Callable[[Any], Slope]:
    def slope(node: Any) -> Slope:
        z = node._saved_self
        bounds: list[Any] = [getattr(node, name, None) if name else None for name in (low, high)]
        if any(isinstance(bound, Tensor) for bound in bounds):
            lo, hi = (None if b is None else torch.as_tensor(b, dtype=z.dtype, device=z.device) for b in bounds)
            zero = torch.zeros_like(z).clamp(lo, hi)
            return Slope(lambda: _secant(z, z.clamp(lo, hi), zero, (zero == 0).to(z.dtype)), zero)
        lowest, highest = (-math.inf if bounds[0] is None else bounds[0], math.inf if bounds[1] is None else bounds[1])
        at_zero = min(max(0.0, lowest), highest)
        return Slope(lambda: _secant(z, z.clamp(lowest, highest), at_zero, float(at_zero == 0)), at_zero)

    return slope


def _softplus(node: Any) -> Slope:
    z, beta, threshold = node._saved_self, node._saved_beta, node._saved_threshold
    zero = math.log(2) / beta
    return Slope(lambda: _secant(z, F.softplus(z, beta, threshold), zero, 0.5), zero)


def _of_self(forward: Callable[[Tensor], Tensor], zero: float, derivative: float) -> Callable[[Any], Slope]:
    return lambda node: Slope(lambda: _secant(node._saved_self, forward(node._saved_self), zero, derivative), zero)


def _pow(node: Any) -> Slope:
    exponent = node._saved_exponent
    return Slope(lambda: node._saved_self ** (exponent - 1))


_SLOPES: dict[str, Callable[[Any], Slope]] = {
    "Silu": lambda node: Slope(lambda: torch.sigmoid(node._saved_self)),
    "Gelu": _gelu,
    "GeLUFunction": lambda node: Slope(lambda: _gelu_gate(node.saved_tensors[0], "tanh")),
    "Mish": lambda node: Slope(lambda: torch.tanh(F.softplus(node._saved_self))),
    "Elu": _elu,
    "Selu": _elu,
    "Celu": _celu,
    "Hardswish": lambda node: Slope(lambda: F.relu6(node._saved_self + 3) / 6),
    "Hardtanh": _clamped("_saved_min_val", "_saved_max_val"),
    "Clamp": _clamped("_saved_min", "_saved_max"),
    "ClampMin": _clamped("_saved_min", ""),
    "ClampMax": _clamped("", "_saved_max"),
    "Softplus": _softplus,
    "LogSigmoid": _of_self(F.logsigmoid, -math.log(2), 0.5),
    "Hardsigmoid": _of_self(F.hardsigmoid, 0.5, 1 / 6),
    "Erf": _of_self(torch.erf, 0.0, 2 / math.sqrt(math.pi)),
    "Erfc": _of_self(torch.erfc, 1.0, -2 / math.sqrt(math.pi)),
    "Pow": _pow,
}
