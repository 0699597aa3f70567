"""Integrated Hessians: second derivatives on the straight line from a baseline, times both differences to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from apportion.core import ApportionError
from apportion.methods import IntegratedGradients
from apportion.methods.backward import Neighbourhood, Place, Point, baseline_point, moves
from apportion.task import AttributionTask


def integrated_hessians(
    task: AttributionTask, method: IntegratedGradients, groups: Sequence[Sequence[int]]
) -> Float[Tensor, "targets groups groups"]:
    r"""The interactions of pairs of features: second derivatives, integrated from a baseline.

    $\Gamma_{ij} = (x_i - x'_i)(x_j - x'_j) \int_0^1 \int_0^1 \alpha\beta\,
    \frac{\partial^2 f}{\partial x_i \partial x_j}(x' + \alpha\beta(x - x'))\,d\alpha\,d\beta$, and on the diagonal also
    $(x_i - x'_i) \int \int \frac{\partial f}{\partial x_i}(x' + \alpha\beta(x - x'))\,d\alpha\,d\beta$; summed over the
    dimensions of embeddings and the elements of regions. The matrix is symmetric, and its rows sum to integrated
    gradients. Only u = αβ matters, whose density on [0, 1] is −ln u, so that one integral is left (see `log_nodes`).

    Check the gap to integrated gradients first: second derivatives vary faster than first ones. If a deep model changes
    abruptly on the path, as language models that normalise their embeddings do near a baseline, even hundreds of steps
    can leave a gap larger than the total; do not read the values as shares then.

    Args:
        task: About one prompt.
        method: Its steps, baseline and batch_size; its quadrature is not used.
        groups: Of the prompt's features. Each takes one backward pass of the gradient for every target and step.

    Raises:
        ApportionError: The model has an operation without a second derivative, or does not embed the prompt's tokens.

    Source:
        Janizek, Sturmfels and Lee 2021, arXiv 2002.04138; the single integral is our own.
    """
    features, targets = len(task.prompts[0].features), len(task.targets)
    of_group = torch.zeros(features, len(groups), dtype=torch.float64)
    for k, members in enumerate(groups):
        of_group[list(members), k] = 1
    near = Neighbourhood(task, batch_size=method.batch_size, doing="integrated Hessians")
    baseline = baseline_point(near, method.baseline)
    way = {place: x - baseline[place] for place, x in near.here.items()}
    points, weights = log_nodes(method.steps)

    def point(step: int) -> Point:
        return {place: x + points[step].item() * way[place] for place, x in baseline.items()}

    found = torch.zeros(targets, len(groups), len(groups), dtype=torch.float64)
    # Fused attention has no second derivative; the plain one computes the same.
    with sdpa_kernel(SDPBackend.MATH):
        for members, moved in near.read_at(method.steps, point):
            line = _Line(moved, near, way, len(members), of_group)
            density = weights[list(members)]
            for t in range(targets):
                first = line.slopes(t)
                second = torch.stack([line.bends(first[:, k]) for k in range(len(groups))], 1)
                found[t] += torch.einsum("s,skl->kl", density * points[list(members)], second)
                found[t] += (density @ first.detach()).diag()
    return found


class _Line:
    """Derivatives along the path from the baseline, at some of its points, which run as one batch (`moved`)."""

    def __init__(
        self,
        moved: AttributionTask,
        near: Neighbourhood,
        way: Point,
        count: int,
        of_group: Float[Tensor, "feature group"],
    ) -> None:
        self.moved, self.near, self.way, self.count, self.of_group = moved, near, way, count, of_group
        leaves = [leaf for leaf in moved.trace.leaves.values() if moves(leaf, moved)]
        self.places: list[Place] = [(leaf.name, leaf.ids or "") for leaf in leaves]
        self.edges = [leaf.edge for leaf in leaves]
        self.values = moved.values_in_graph()

    def slopes(self, target: int) -> Float[Tensor, "point group"]:
        """Each group's gradient times its difference to the baseline, as part of the graph."""
        value = self.values[:, target].sum()
        self.moved.passes.backward += self.count
        return self._shared(torch.autograd.grad(value, self.edges, create_graph=True, allow_unused=True))

    def bends(self, slopes: Float[Tensor, " point"]) -> Float[Tensor, "point group"]:
        """The same for one group's slopes: the second derivative times both differences."""
        if not slopes.requires_grad:
            return torch.zeros(self.count, self.of_group.shape[1], dtype=torch.float64)
        self.moved.passes.backward += self.count
        try:
            found = torch.autograd.grad(slopes.sum(), self.edges, retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            said = str(error).splitlines()[0]
            raise ApportionError(
                f"integrated Hessians need a second derivative, which an operation of this model lacks ({said}); load "
                "the model with attn_implementation='eager', or use index='metagame'."
            ) from error
        return self._shared(found)

    def _shared(self, gradients: Sequence[Tensor | None]) -> Float[Tensor, "point group"]:
        """Gradients times the difference to the baseline, summed over the elements of each group, for every point."""
        amounts: dict[Place, Any] = {place: x.new_zeros(self.count, *x.shape) for place, x in self.near.here.items()}
        for place, gradient in zip(self.places, gradients, strict=True):
            if gradient is not None:
                shaped = gradient.reshape(amounts[place].shape).to(amounts[place])
                amounts[place] = amounts[place] + shaped * self.way[place]
        shares = self.near.shares(_checked(amounts)).double()
        return shares @ self.of_group


def _checked(amounts: Mapping[Place, Tensor]) -> Mapping[Place, Tensor]:
    if not all(bool(amount.isfinite().all()) for amount in amounts.values()):
        raise ApportionError(
            "a derivative on the path from the baseline is NaN or infinite; choose a baseline where the model is "
            "smooth, such as integrated-gradients(baseline='mean')."
        )
    return amounts


def log_nodes(steps: int) -> tuple[Float[Tensor, " steps"], Float[Tensor, " steps"]]:
    r"""Points u in [0, 1] and weights for the integral of a function of a product of two numbers.

    $\int_0^1 \int_0^1 g(\alpha\beta)\,d\alpha\,d\beta = \int_0^1 -\ln u\,g(u)\,du$. This is the Gauss
    rule of the density −ln u, exact for polynomials of degree 2 · steps − 1. Products of two Gauss–Legendre rules with
    as many points represent the density exactly up to the degree needed; Stieltjes' procedure derives the recurrence of
    the orthogonal polynomials, and Golub and Welsch's method the points and weights.
    """
    at, length = np.polynomial.legendre.leggauss(steps)
    u = np.multiply.outer((at + 1) / 2, (at + 1) / 2).ravel()
    mass = np.multiply.outer(length / 2, length / 2).ravel()
    centres, widths = np.zeros(steps), np.zeros(steps)
    before, polynomial = np.zeros_like(u), np.ones_like(u) / np.sqrt(mass.sum())
    for k in range(steps):  # orthonormal polynomials at u
        centres[k] = mass @ (u * polynomial**2)
        residue = (u - centres[k]) * polynomial - (widths[k - 1] * before if k else 0)
        widths[k] = np.sqrt(mass @ residue**2)
        if k + 1 < steps:
            before, polynomial = polynomial, residue / widths[k]
    off = widths[: steps - 1]
    points, vectors = np.linalg.eigh(np.diag(centres) + np.diag(off, 1) + np.diag(off, -1))
    return torch.from_numpy(points), torch.from_numpy(vectors[0] ** 2)
