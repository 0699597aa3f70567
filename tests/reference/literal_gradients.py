"""The gradient family, literally: one run of the model for every point, and loops over tokens and dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import grad

#: From the embeddings of one example's tokens, (token, d_model), to the target.
Target = Callable[[Tensor], Tensor]

#: Points on [-1, 1] and their weights for the Gauss–Legendre rule of three points (Abramowitz and Stegun, 25.4.30).
GAUSS_LEGENDRE_3 = ((-math.sqrt(3 / 5), 5 / 9), (0.0, 8 / 9), (math.sqrt(3 / 5), 5 / 9))


def gradient_at(target: Target, x: Float[Tensor, "token d_model"]) -> Float[Tensor, "token d_model"]:
    """The target's gradient at one point."""
    leaf = x.detach().clone().requires_grad_(True)
    return grad(target(leaf), leaf)[0]


def literal_gradient(target: Target, x: Float[Tensor, "token d_model"], norm: str) -> list[float]:
    """The norm of the gradient at each token."""
    return [_norm(row, norm) for row in gradient_at(target, x).tolist()]


def literal_integrated_gradients(
    target: Target,
    x: Float[Tensor, "token d_model"],
    baseline: Float[Tensor, "token d_model"],
    points: Sequence[tuple[float, float]],
) -> list[float]:
    """Sundararajan et al. 2017, eq. 1, with the integral as a sum over (α, weight)."""
    scores = [0.0] * len(x)
    for alpha, weight in points:
        gradient = gradient_at(target, baseline + alpha * (x - baseline))
        for i in range(len(x)):
            for d in range(x.shape[1]):
                scores[i] += weight * (x[i, d] - baseline[i, d]).item() * gradient[i, d].item()
    return scores


def steps_of(quadrature: str, steps: int) -> list[tuple[float, float]]:
    """(α, weight) of a rule on [0, 1]."""
    if quadrature == "gauss-legendre":
        assert steps == 3
        return [((1 + point) / 2, weight / 2) for point, weight in GAUSS_LEGENDRE_3]
    if quadrature == "riemann-left":
        return [(k / steps, 1 / steps) for k in range(steps)]
    if quadrature == "riemann-right":
        return [((k + 1) / steps, 1 / steps) for k in range(steps)]
    if quadrature == "riemann-midpoint":
        return [((k + 1 / 2) / steps, 1 / steps) for k in range(steps)]
    assert quadrature == "trapezoid"
    return [(k / (steps - 1), (0.5 if k in (0, steps - 1) else 1) / (steps - 1)) for k in range(steps)]


def literal_smoothgrad(
    target: Target, x: Float[Tensor, "token d_model"], *, samples: int, noise: float, seed: int, score: str
) -> tuple[list[float], list[float]]:
    """Smilkov et al. 2017, section 3, and the standard errors of what is made of the mean gradient."""
    generator = torch.Generator().manual_seed(seed)
    sigma = noise * (x.max() - x.min()).item()
    gradients = []
    for _ in range(samples):
        gradients.append(gradient_at(target, x + sigma * torch.randn(x.shape, generator=generator).to(x)))
    scores, errors = [], []
    for i in range(len(x)):
        mean = [sum(g[i, d].item() for g in gradients) / samples for d in range(x.shape[1])]
        if score == "input-x-gradient":
            slope = x[i].tolist()
            scores.append(sum(a * b for a, b in zip(slope, mean, strict=True)))
        elif score == "l1":
            slope = [math.copysign(1, m) for m in mean]
            scores.append(_norm(mean, "l1"))
        else:
            slope = [m / _norm(mean, "l2") for m in mean]
            scores.append(_norm(mean, "l2"))
        errors.append(_error([sum(s * a for s, a in zip(slope, g[i].tolist(), strict=True)) for g in gradients]))
    return scores, errors


def literal_expected_gradients(
    target: Target,
    x: Float[Tensor, "token d_model"],
    references: Sequence[Float[Tensor, "token d_model"]],
    alphas: Sequence[float],
) -> tuple[list[float], list[float]]:
    """Erion et al. 2021, eq. 3, over draws of a reference and an α, with the standard errors of the means."""
    draws: list[list[float]] = [[] for _ in range(len(x))]
    for reference, alpha in zip(references, alphas, strict=True):
        gradient = gradient_at(target, reference + alpha * (x - reference))
        for i in range(len(x)):
            draws[i].append(sum(((x[i] - reference[i]) * gradient[i]).tolist()))
    return [sum(of_token) / len(of_token) for of_token in draws], [_error(of_token) for of_token in draws]


def drawn_tokens(vocabulary: int, samples: int, length: int, seed: int) -> tuple[Int[Tensor, "sample token"], Tensor]:
    """The tokens and the α that a seed stands for: first all tokens, then all α."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(vocabulary, (samples, length), generator=generator)
    return tokens, torch.rand(samples, generator=generator)


def _norm(row: Sequence[float], norm: str) -> float:
    return sum(abs(a) for a in row) if norm == "l1" else math.sqrt(sum(a * a for a in row))


def _error(draws: Sequence[float]) -> float:
    """The standard error of a mean of draws."""
    mean = sum(draws) / len(draws)
    return math.sqrt(sum((a - mean) ** 2 for a in draws) / (len(draws) - 1) / len(draws))
