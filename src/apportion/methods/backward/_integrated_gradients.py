"""Integrated gradients: the gradient along the straight line from a baseline, times the difference to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.methods._method import OneByOne, Shares
from apportion.methods._registry import backward_method
from apportion.methods.backward._baseline import baseline_point, check_baseline
from apportion.methods.backward._counts import check_batch_size, check_count
from apportion.methods.backward._neighbourhood import Neighbourhood, Point
from apportion.task import AttributionTask

Quadrature = Literal["gauss-legendre", "riemann-right", "riemann-left", "riemann-midpoint", "trapezoid"]
QUADRATURES: tuple[Quadrature, ...] = get_args(Quadrature)


@backward_method(
    "integrated-gradients",
    conserves="with a remainder",
    cost="34 forward, 32 backward (steps=32)",
    source="Sundararajan et al. 2017, arXiv 1703.01365",
)
@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(OneByOne):
    r"""Divide the target's difference to a baseline by the gradients on the straight line between the two.

    $R_i = (x_i - x'_i) \cdot \int_0^1 \nabla_i f(x' + \alpha (x - x'))\,d\alpha$, summed over the dimensions of token
    i's embedding, or over the elements of region i of an image. Images and all tokens' embeddings move together, those
    of a decoder too; embeddings of positions and token types stay. In the ledger $f(x)$ = tokens (or image) + target at
    the baseline + completeness gap, where the gap is the quadrature error $f(x) - f(x') - \sum_i R_i$. It shrinks with
    more steps.

    Check the gap before the scores. A model that normalises its embeddings first, as Llama does, changes abruptly right
    beside the zero baseline, between the points of the sum; `"mean"` starts where it changes slowly. Deep models can
    vary so much along any straight line that hundreds of steps leave a gap as large as the target: do not read the
    scores as shares then.

    Args:
        steps: Points at which the gradient is evaluated.
        baseline: Each token's $x'$: `"zero"`, the `"mean"` of the embedding matrix's rows, the embedding of the
            tokenizer's `"pad"`, `"mask"`, `"unk"`, `"eos"` or `"bos"` token, or of a token id. For an image:
            `"zero"` after normalisation, the `"mean"` of its own pixels, or `"blur"`, a blurred copy. With `"blur"`
            words start at zero, and with a token images do.
        quadrature: `"gauss-legendre"`, or steps of equal length: `"riemann-right"` (the paper's eq. 3),
            `"riemann-left"`, `"riemann-midpoint"`, `"trapezoid"`.
        batch_size: How many steps run as one batch; by default enough for about 2,000 tokens.

    Raises:
        ApportionError: An option does not fit, or the tokenizer has no token of the baseline's name.

    Source:
        Sundararajan et al. 2017, arXiv 1703.01365, eq. 1.
    """

    steps: int = 32
    baseline: str | int = "zero"
    quadrature: Quadrature = "gauss-legendre"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_baseline(self.baseline)
        if self.quadrature not in QUADRATURES:
            raise ApportionError(
                f"quadrature={self.quadrature!r} is not known; use {', '.join(map(repr, QUADRATURES))}."
            )
        check_count("steps", self.steps, least=2 if self.quadrature == "trapezoid" else 1)
        check_batch_size(self.batch_size)

    def alone(self, task: AttributionTask) -> Shares:
        """Integrate; the steps of all targets share their forward passes."""
        near = Neighbourhood(task, batch_size=self.batch_size, doing="integrating gradients")
        baseline = baseline_point(near, self.baseline)
        way = {place: x - baseline[place] for place, x in near.here.items()}
        points, weights = nodes(self.steps, self.quadrature)
        integral = {place: x.new_zeros(near.targets, *x.shape) for place, x in way.items()}

        def point(step: int) -> Point:
            return {place: x + points[step].item() * way[place] for place, x in baseline.items()}

        for weight, gradients in zip(weights.tolist(), near.derivatives(self.steps, point), strict=True):
            for place, gradient in gradients.items():
                integral[place] += weight * gradient
        scores = near.shares({place: way[place] * integral[place] for place in way})
        elsewhere = near.values(1, lambda _: baseline)[0]
        ledger = near.ledger(scores, elsewhere, name="target at the baseline", gap="completeness gap")
        return Shares(scores=[scores], ledger=ledger)


def nodes(steps: int, quadrature: Quadrature) -> tuple[Float[Tensor, " steps"], Float[Tensor, " steps"]]:
    """Points between 0 and 1 and their weights, which sum to 1."""
    if quadrature == "gauss-legendre":
        from_minus_1_to_1, lengths = np.polynomial.legendre.leggauss(steps)
        return torch.from_numpy((from_minus_1_to_1 + 1) / 2), torch.from_numpy(lengths / 2)
    if quadrature == "trapezoid":
        weight = torch.full((steps,), 1 / (steps - 1), dtype=torch.float64)
        weight[[0, -1]] /= 2
        return torch.linspace(0, 1, steps, dtype=torch.float64), weight
    shift = {"riemann-left": 0.0, "riemann-midpoint": 0.5, "riemann-right": 1.0}[quadrature]
    points = (torch.arange(steps, dtype=torch.float64) + shift) / steps
    return points, torch.full_like(points, 1 / steps)
