"""The gamma rule: contributions with the sign of their sum count more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from apportion.core import ApportionError
from apportion.relevance._treatment import Gradients, Treatment, inner

#: The arguments that an operation ran with.
Operands = tuple[tuple[Any, ...], Mapping[str, Any]]


def residual_sum(name: str, operands: Operands, gamma: float) -> Treatment:
    r"""A sum y = a + b shares each element's relevance by $w(z) = 1 + \gamma\,[z y > 0]$.

    $R_a = w(a) a / (w(a) a + w(b) b) R_y$, and likewise for b. The denominator is at least as large as y and has its
    sign, so it needs no stabiliser; where y is 0 both summands keep the derivative.

    Source: Berend, Achtibat et al. 2026.
    """
    (a, b, *rest), keywords = operands
    scale = keywords.get("alpha", rest[0] if rest else 1) * (-1 if name == "Sub" else 1)

    def derivative(arguments: Gradients, results: Gradients) -> Gradients:
        grad = results[0]
        assert grad is not None
        added = b if scale == 1 else scale * b
        y = a + added
        # In place and without masks, which are slow, since every layer has a residual sum.
        to_a, to_b = ((z * y).gt_(0).mul_(gamma).add_(1) for z in (a, added))
        vanishes = y.clone().eq_(0)
        weighted = (to_a * a).addcmul_(to_b, added).add_(vanishes)
        factor = grad * y.add_(vanishes).div_(weighted)
        passed = (factor * to_a).to(a.dtype), (factor * (to_b if scale == 1 else to_b * scale)).to(b.dtype)
        return tuple(None if given is None else new for given, new in zip(arguments, passed, strict=False))

    return Treatment(kind="residual", rule=f"γ = {gamma:g} for the summand with the sum's sign", derivative=derivative)


def linear_map(
    node: Any, name: str, operands: Operands, source: int, *, gamma: float | None, path: str, constant: str
) -> Treatment:
    r"""A map with weights, $z_j = \sum_i x_i w_{ij} + b_j$, shares relevance by its weighted contributions.

    $R_i = \sum_j v_{ij} x_i w_{ij} / (\sum_k v_{kj} x_k w_{kj} + v_j b_j) R_j$ with $v = 1 + \gamma$ for contributions
    that have the sign of $z_j$ and 1 for the others; for z⁺ 1 and 0. The bias is a contribution like any other.

    Args:
        node: The map's node.
        name: Its operation.
        operands: The arguments it ran with.
        source: Which of its arguments is x.
        gamma: γ, or None for the z⁺ rule.
        path: The path of its module, for errors.
        constant: The ledger's line for the share of a bias that is no leaf.
    """
    given = _Map.of(name, operands, source, path)

    @cache
    def factors() -> tuple[Tensor | None, Tensor, Tensor]:
        """The factors of z's gradient for all, and additionally for positive and for negative contributions."""
        positive, total = given.positive_part(), given.total()
        matching = torch.where(total > 0, positive, (total - positive).clamp_max(0))
        if gamma is None:
            plain, more = None, torch.where(matching == 0, 0.0, total / torch.where(matching == 0, 1.0, matching))
        else:
            weighted = total + gamma * matching
            plain = torch.where(weighted == 0, 1.0, total / torch.where(weighted == 0, 1.0, weighted))
            more = gamma * plain
        return plain, torch.where(total > 0, more, 0.0), torch.where(total < 0, more, 0.0)

    def to_added(grad: Tensor) -> Tensor:
        assert given.added is not None
        plain, up, down = factors()
        passed = torch.where(given.added > 0, grad * up, torch.where(given.added < 0, grad * down, 0.0))
        return passed if plain is None else passed + grad * plain

    def derivative(arguments: Gradients, results: Gradients) -> Gradients:
        grad = results[0]
        assert grad is not None
        plain, up, down = factors()
        passed = given.to_input(None if plain is None else grad * plain, grad * up, grad * down)
        shares: list[Tensor | None] = [None] * len(arguments)
        shares[source] = passed
        if given.added_at is not None and (bias := arguments[given.added_at]) is not None:
            assert given.added is not None
            shares[given.added_at] = given.beta * to_added(grad).sum_to_size(given.added.shape).reshape(bias.shape)
        return tuple(shares)

    absorbed: Callable[[Gradients, Gradients], Tensor] | None = None
    if given.added is not None and constant:

        def absorbed(arguments: Gradients, results: Gradients) -> Tensor:
            assert given.added is not None
            assert results[0] is not None
            return inner(given.added, to_added(results[0]))

    words = "z⁺" if gamma is None else f"γ = {gamma:g}"
    return Treatment(
        kind="linear map",
        rule=f"{words} for contributions with the result's sign",
        derivative=derivative,
        absorbed=absorbed,
        line=constant,
    )


def unknown_map(name: str, path: str) -> ApportionError:
    """The error for a map with weights whose contributions are not known."""
    return ApportionError(
        f"the γ and z⁺ rules are not known for {name!r} in {path or 'the model itself'}; use linear='epsilon' "
        "there, or load a mixture of experts with experts_implementation='eager'."
    )


@dataclass(frozen=True, slots=True)
class _Map:
    """The values and products of a linear map with weights."""

    x: Tensor  # carries relevance
    weight: Tensor
    added: Tensor | None  # is added to the product
    added_at: int | None  # the index of this argument
    beta: float  # the factor of this argument
    forward: Callable[[Tensor, Tensor], Tensor]  # from x and weights to their product
    backward: Callable[[Tensor, Tensor], Tensor]  # from gradients and weights to gradients of x

    @classmethod
    def of(cls, name: str, operands: Operands, source: int, path: str) -> _Map:
        arguments, keywords = operands
        if name in ("Convolution", "MkldnnConvolution") and source == 0:
            return _convolution(arguments)
        if name in ("Mm", "Bmm"):
            return _product(arguments, source, None, 1.0, 1.0)
        if name in ("Addmm", "Baddbmm"):
            beta, alpha = keywords.get("beta", 1), keywords.get("alpha", 1)
            return _product(arguments[1:3], source - 1, arguments[0], beta, alpha)
        raise unknown_map(name, path)

    def total(self) -> Tensor:
        """The map's result."""
        product = self.forward(self.x, self.weight)
        return product if self.added is None else product + self.added

    def positive_part(self) -> Tensor:
        """The sum of all positive contributions to each result."""
        x, w = self.x, self.weight
        product = self.forward(x.clamp_min(0), w.clamp_min(0)) + self.forward(x.clamp_max(0), w.clamp_max(0))
        return product if self.added is None else product + self.added.clamp_min(0)

    def to_input(self, plain: Tensor | None, up: Tensor, down: Tensor) -> Tensor:
        """Gradients of x: `plain` through all weights, `up` through positive contributions, `down` through negative."""
        positive, negative = self.weight.clamp_min(0), self.weight.clamp_max(0)
        where_positive = self.backward(up, positive) + self.backward(down, negative)
        where_negative = self.backward(up, negative) + self.backward(down, positive)
        passed = torch.where(self.x > 0, where_positive, torch.where(self.x < 0, where_negative, 0.0))
        return passed if plain is None else passed + self.backward(plain, self.weight)


def _product(factors: tuple[Tensor, ...], source: int, added: Tensor | None, beta: float, alpha: float) -> _Map:
    x, weight = factors[source], factors[1 - source] * alpha if alpha != 1 else factors[1 - source]
    forward: Callable[[Tensor, Tensor], Tensor] = (lambda x, w: x @ w) if source == 0 else (lambda x, w: w @ x)
    backward: Callable[[Tensor, Tensor], Tensor] = (lambda g, w: g @ w.mT) if source == 0 else (lambda g, w: w.mT @ g)
    if added is not None:
        return _Map(x, weight, added * beta, 0, beta, forward, backward)
    return _Map(x, weight, None, None, 1.0, forward, backward)


def _convolution(arguments: tuple[Any, ...]) -> _Map:
    x, weight, bias, *how = arguments

    def backward(grad: Tensor, w: Tensor) -> Tensor:
        to_x: Tensor = torch.ops.aten.convolution_backward(grad, x, w, None, *how, [True, False, False])[0]
        return to_x

    def forward(x: Tensor, w: Tensor) -> Tensor:
        return torch.convolution(x, w, None, *how)

    added = None if bias is None else bias.reshape(-1, *[1] * (x.dim() - 2))
    return _Map(x, weight, added, None if bias is None else 2, 1.0, forward, backward)
