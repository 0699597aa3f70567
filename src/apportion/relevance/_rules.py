"""The rules: the treatment of each class of operation under a composite."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from apportion.relevance._operations import PRODUCTS
from apportion.relevance._slopes import Slope, activation_values
from apportion.relevance._temperature import tempered_attention, tempered_softmax
from apportion.relevance._treatment import Absorbed, Derivative, Gradients, Treatment, inner

#: The ledger's line for relevance that plain derivatives of curved functions do not pass on.
CURVATURE = "non-linearities"

Node = Any


def fused_attention(
    node: Node,
    rule: str,
    live: tuple[bool, ...],
    line: str,
    *,
    split: tuple[float, float, float] = (0.25, 0.25, 0.5),
    temperature: float = 1.0,
) -> Treatment:
    """A fused kernel of queries, keys and values (and perhaps a bias of the scores).

    Queries, keys and values get less than the whole: the softmax absorbs its Taylor remainder around 0.
    Source: Achtibat et al. 2024, eq. 13-16; at another temperature Edin et al. 2025.
    """
    extra = max(0, len(live) - 3)
    if rule == "values":
        shares_of_values = (None, None, 1.0, *[None] * extra)
        return Treatment.divide(shares_of_values, "attention", "weights held constant, all to the values")
    queries, keys, values = split
    uniform = (queries, keys, values, *[queries + keys] * extra)
    shares = uniform if rule == "uniform" else (1.0,) * (3 + extra)

    def absorbed(arguments: Gradients, results: Gradients) -> Tensor:
        amount = inner(node._saved_output, _given(results[0], node._saved_output))
        for saved, grad in zip(("query", "key", "value"), arguments, strict=False):
            if grad is not None:
                amount = amount - inner(getattr(node, f"_saved_{saved}"), grad)
        return amount

    divided = f"{_part(queries)} to queries, {_part(keys)} to keys, {_part(values)} to values"
    words = divided if rule == "uniform" else "derivative kept"
    return Treatment(
        kind="attention",
        rule=words if temperature == 1 else f"{words}, {_at(temperature)}",
        shares=None if rule == "gradient" else shares,
        derivative=None if temperature == 1 else tempered_attention(node, temperature),
        absorbed=absorbed,
        line=line,
        in_place=True,
    )


def _part(share: float) -> str:
    return {0.25: "¼", 0.5: "½", 0.75: "¾"}.get(share, f"{share:.2g}")


def _at(temperature: float) -> str:
    return f"softmax's derivative at temperature {temperature:g}"


def softmax(node: Node, name: str, kind: str, line: str, *, temperature: float = 1.0) -> Treatment:
    """A softmax keeps its derivative (AttnLRP's rule); the relevance it absorbs is computed from its result.

    With y = log s = x − log Σ exp x, the log-sum-exp is constant in a row and the row's gradient sums to 0, so
    Σ x·g = Σ y·g, at any temperature of the derivative. Source: Achtibat et al. 2024, eq. 13.
    """

    def absorbed(arguments: Gradients, results: Gradients) -> Tensor:
        s = node._saved_result if hasattr(node, "_saved_result") else node.saved_tensors[0]
        y = s if name == "LogSoftmax" else _log(s)
        return inner(s, _given(results[0], s)) - inner(y, _given(arguments[0], y))

    if temperature == 1:
        return Treatment(kind=kind, rule="derivative kept", absorbed=absorbed, line=line)
    derivative = tempered_softmax(node, temperature)
    return Treatment(kind=kind, rule=_at(temperature), derivative=derivative, absorbed=absorbed, line=line)


def split_product(node: Node, name: str, factors: tuple[int, ...], split: tuple[float, float], kind: str) -> Treatment:
    """A product of two live factors that get these shares of its relevance."""
    words = "½ to each factor" if split == (0.5, 0.5) else f"{_part(split[0])} and {_part(split[1])} to the factors"
    return product(node, name, factors, dict(zip(factors, split, strict=True)), kind, words)


def product(
    node: Node, name: str, factors: tuple[int, ...], shares: dict[int, float | None], kind: str, rule: str
) -> Treatment:
    """A product of live factors; it absorbs what the shares leave of Σ factor·gradient, nothing if they sum to 1."""
    given = [shares.get(k, 1.0) for k in range(len(node.next_functions))]
    kept = sum(s for k, s in shares.items() if s is not None and k in factors)
    if math.isclose(kept, 1):
        return Treatment(kind=kind, rule=rule, shares=tuple(given), in_place=True)
    first = factors[0]

    def absorbed(arguments: Gradients, results: Gradients) -> Tensor:
        value = getattr(node, _SAVED_FACTORS[name][PRODUCTS[name].index(first)])
        return (1 - kept) * inner(value, _given(arguments[first], value))

    return Treatment(kind=kind, rule=rule, absorbed=absorbed, line=CURVATURE)


_SAVED_FACTORS = {
    "Mul": ("_saved_self", "_saved_other"),
    "Mm": ("_saved_self", "_saved_mat2"),
    "Bmm": ("_saved_self", "_saved_mat2"),
    "Mv": ("_saved_self", "_saved_vec"),
    "Dot": ("_saved_self", "_saved_tensor"),
    "Vdot": ("_saved_self", "_saved_other"),
    "Outer": ("_saved_self", "_saved_vec2"),
    "Addmm": ("_saved_mat1", "_saved_mat2"),
    "Addmv": ("_saved_mat", "_saved_vec"),
    "Baddbmm": ("_saved_batch1", "_saved_batch2"),
    "Addbmm": ("_saved_batch1", "_saved_batch2"),
    "Addcmul": ("_saved_tensor1", "_saved_tensor2"),
    "Convolution": ("_saved_input", "_saved_weight"),
    "MkldnnConvolution": ("_saved_input", "_saved_weight"),
    "GroupedMm": ("_saved_self", "_saved_mat2"),
}


def identity(slope: Slope) -> Treatment:
    """An activation that passes all its relevance on: its slope is the secant through its value at 0."""

    def derivative(arguments: Gradients, results: Gradients) -> Gradients:
        return (slope.at().mul(_given(results[0])), *arguments[1:])

    if isinstance(slope.at_zero, float) and slope.at_zero == 0:
        return Treatment(kind="activation", rule="f(z)/z", derivative=derivative)

    def absorbed(arguments: Gradients, results: Gradients) -> Tensor:
        grad = _given(results[0])
        wide = grad.to(torch.promote_types(grad.dtype, torch.float32))
        return (slope.at_zero * wide).sum()

    return Treatment(
        kind="activation", rule="(f(z) − f(0))/z", derivative=derivative, absorbed=absorbed, line="constants"
    )


def curved_activation(node: Node, name: str) -> Treatment:
    """An activation that keeps its derivative; it absorbs Σ f(z)·g − Σ z·f′(z)·g."""

    def absorbed(arguments: Gradients, results: Gradients) -> Tensor:
        z, y = activation_values(name, node)
        return inner(y, _given(results[0], y)) - inner(z, _given(arguments[0], z))

    return Treatment(kind="activation", rule="derivative kept", absorbed=absorbed, line=CURVATURE)


def frozen_norm(node: Node, name: str) -> Treatment:
    """A normalisation with its statistic held constant; the mean subtraction stays linear.

    Source: Ali et al. 2022, eq. 12; Achtibat et al. 2024, eq. 9.
    """
    return Treatment(kind="norm", rule="statistic held constant", derivative=_FROZEN[name](node))


def curved_norm(node: Node, name: str) -> Treatment:
    """A normalisation that keeps its derivative; it absorbs nearly everything, since scale does not affect it."""
    frozen = _FROZEN[name](node)

    def absorbed(arguments: Gradients, results: Gradients) -> Tensor:
        x = node._saved_input
        linear = frozen(arguments, results)[0]
        return inner(x, _given(linear, x)) - inner(x, _given(arguments[0], x))

    return Treatment(kind="norm", rule="derivative kept", absorbed=absorbed, line=CURVATURE)


def _layer_norm(node: Node) -> Derivative:
    def derivative(arguments: Gradients, results: Gradients) -> Gradients:
        grad = _given(results[0])
        weight, rstd = node._saved_weight, node._saved_result2
        grad = grad * rstd if weight is None else grad * weight * rstd
        axes = tuple(range(-len(node._saved_normalized_shape), 0))
        return (grad - grad.mean(axes, keepdim=True), *arguments[1:])

    return derivative


def _rms_norm(node: Node) -> Derivative:
    def derivative(arguments: Gradients, results: Gradients) -> Gradients:
        grad, weight = _given(results[0]), node._saved_weight
        grad = grad if weight is None else grad * weight
        return (grad * node._saved_result1, *arguments[1:])

    return derivative


def _group_norm(node: Node) -> Derivative:
    def derivative(arguments: Gradients, results: Gradients) -> Gradients:
        grad, weight, rstd = _given(results[0]), node._saved_weight, node._saved_result2
        if weight is not None:
            grad = grad * weight.view(-1, *[1] * (grad.dim() - 2))
        groups = grad.reshape(grad.shape[0], node._saved_group, -1) * rstd.reshape(grad.shape[0], -1, 1)
        return ((groups - groups.mean(-1, keepdim=True)).reshape(grad.shape), *arguments[1:])

    return derivative


def batch_norm(node: Node) -> Treatment:
    """A batch norm in evaluation mode, which is affine.

    Its derivative is computed here because torch's own reads a gradient with unusual strides (a permuted result's) in
    the wrong order on CPU (seen in torch 2.13).
    """

    def derivative(arguments: Gradients, results: Gradients) -> Gradients:
        grad = _given(results[0])
        shape = (-1, *[1] * (grad.dim() - 2))
        scale = (node._saved_running_var + getattr(node, "_saved_eps", getattr(node, "_saved_epsilon", None))).rsqrt()
        scale = scale if node._saved_weight is None else scale * node._saved_weight
        passed = grad * scale.view(shape).to(grad.dtype)
        if len(arguments) < 3 or arguments[2] is None:
            return (passed, *arguments[1:])
        return (passed, arguments[1], grad.transpose(0, 1).flatten(1).sum(1), *arguments[3:])

    return Treatment(kind="linear", rule="affine in evaluation mode", derivative=derivative)


_FROZEN = {"NativeLayerNorm": _layer_norm, "FusedRmsNorm": _rms_norm, "NativeGroupNorm": _group_norm}
_FROZEN["NativeRmsNorm"] = _rms_norm

#: For functions that are homogeneous of degree p in their input, Σ x·g_in = p · Σ y·g_out.
_DEGREES = {"Rsqrt": -0.5, "Sqrt": 0.5, "Reciprocal": -1.0}


def curved_statistic(node: Node, name: str) -> Treatment:
    """A statistic that keeps its derivative."""
    absorbed: Absorbed | None = None
    if name in _DEGREES:

        def absorbed(arguments: Gradients, results: Gradients) -> Tensor:
            return (1 - _DEGREES[name]) * inner(node._saved_result, _given(results[0]))

    elif name == "Exp":

        def absorbed(arguments: Gradients, results: Gradients) -> Tensor:
            y = node._saved_result
            return inner(y, _given(results[0], y)) - inner(_log(y), _given(arguments[0], y))

    return Treatment(kind="statistic", rule="derivative kept", absorbed=absorbed, line=CURVATURE)


def curved_quotient(node: Node, numerator: int) -> Treatment:
    """A quotient of two live factors that keeps its derivative: the denominator gets the negative of the numerator."""

    def absorbed(arguments: Gradients, results: Gradients) -> Tensor:
        return inner(node._saved_self, _given(arguments[numerator], node._saved_self))

    return Treatment(kind="quotient", rule="derivative kept", absorbed=absorbed, line=CURVATURE)


def _log(y: Tensor) -> Tensor:
    """log y, finite where y is 0, since the gradient is 0 there."""
    return y.clamp_min(torch.finfo(y.dtype).tiny).log()


def _given(grad: Tensor | None, like: Tensor | None = None) -> Tensor:
    """The gradient, or zeros if there is none."""
    if grad is None:
        assert like is not None
        return torch.zeros_like(like)
    return grad
