r"""The concept game in closed form: each concept's part of a patch when the others are added and removed.

Players are concepts. With a coalition $T$ present only the denominator of the softmax changes: at each patch concept
$c \in T$ has $e_c / (C + \sum_{k \in T} e_k)$, where $e$ are the exponentials of the dot products and $C$ is the mass
of concepts that are always present. Since $1/a = \int_0^\infty e^{-sa}\,ds$, and since a Shapley value is the mean over
$p$ from 0 to 1 of coalitions that every player joins with probability $p$, both orders are integrals of products:

$$\varphi_{c} = \int_0^1\!dp \int_0^\infty\!ds\; e_c\, e^{-s(e_c+C)} \prod_{l \ne c} f_l,
\qquad f_l = 1 - p + p\,e^{-s e_l},$$

$$\varphi_{k \to c} = \int_0^1\!dp \int_0^\infty\!ds\; e_c\, e^{-s(e_c+C)}\,(e^{-s e_k} - 1) \prod_{l \ne k,c} f_l,
\qquad \varphi_{c \to c} = e_c / (e_c + C).$$

At each node the product of all concepts is computed once and divided by the factors left out (no factor is below
$1 - p$), so that all pairs are one matrix product over the nodes.

Source:
    Baniecki, Biecek and Fumagalli 2026, arXiv 2605.06295, for the game; the closed form is ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import progress

#: The distance of nodes in log s. The integrand is analytic for imaginary parts below π/2, so the error of the
#: trapezoidal rule is about exp(−π² / STEP) = 3e-10 for any dot products and any number of concepts.
STEP = 0.45
#: The first node is where s times the largest mass is FIRST, the last where s times the smallest is LAST.
FIRST, LAST = 1e-7, 26.0
#: How many numbers each of a few arrays holds for a chunk of patches.
CELLS = 2**18


@dataclass(frozen=True, kw_only=True)
class ConceptGame:
    """Both orders of the game, averaged over layers.

    Args:
        coalition_mean: The mean of a concept's part over coalitions of the others: its Shapley value if an absent
            concept has nothing.
        values: The effect of each source on the softmax of each target, never above 0 between two of them; on the
            diagonal the target's part alone. None without `pairs`.
    """

    coalition_mean: Float[Tensor, "concept patch"]
    values: Float[Tensor, "source target patch"] | None


def concept_game(
    logits: Float[Tensor, "layer concept patch"],
    always: Float[Tensor, "layer patch"] | None = None,
    *,
    pairs: bool = True,
    show: bool = False,
) -> ConceptGame:
    """Solve the concept game at every patch of every layer; in float64, to about 1e-8.

    Time grows with layers × patches × concepts × nodes. There are about 44 + 2.2 · (range of the dot products) nodes in
    s, and in p half as many as concepts, which is exact, up to 23, and 2.4 √concepts beyond. Pairs add one matrix
    product per patch.

    Args:
        logits: Dot products, finite.
        always: Logarithm of the mass C of concepts that are always present; None for none.
        pairs: Whether to compute `values` too.
        show: Whether to show a progress bar.
    """
    wide = logits.detach().double().cpu()
    layers, concepts, patches = wide.shape
    log_c = torch.full((layers, patches), -math.inf, dtype=torch.float64) if always is None else always.double().cpu()
    coalition_mean = torch.zeros(patches, concepts, dtype=torch.float64)
    values = torch.zeros(patches if pairs else 0, concepts, concepts, dtype=torch.float64)
    chances = _chances(concepts)
    for layer, kept in progress(list(zip(wide, log_c, strict=True)), "concepts", show=show):
        largest = torch.maximum(layer.amax(0), kept)
        x, c = layer - largest, kept - largest
        places = _places(torch.logaddexp(x.amin(0), c).min().item())
        size = max(1, CELLS // (concepts * len(places) * len(chances[0])))
        for first in range(0, patches, size):
            part = slice(first, first + size)
            each, both = _at_nodes(x.T[part], c[part], places, chances, pairs=pairs)
            coalition_mean[part] += each
            if both is not None:
                values[part] += both
    if not pairs:
        return ConceptGame(coalition_mean=coalition_mean.T / layers, values=None)
    values = values.permute(1, 2, 0) / layers
    alone = torch.sigmoid(wide - log_c[:, None]).mean(0)
    values[range(concepts), range(concepts)] = alone
    return ConceptGame(coalition_mean=coalition_mean.T / layers, values=values)


def _chances(concepts: int) -> tuple[Tensor, Tensor]:
    """Gauss–Legendre nodes for p and their weights.

    The integrand is a polynomial of degree `concepts` − 1 in p, so half as many nodes are exact. It falls no faster
    than exp(−`concepts` · p), so the error of `count` nodes is about exp(−4 count² / concepts).
    """
    count = min(math.ceil(concepts / 2), math.ceil(2.4 * concepts**0.5))
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)


def _places(lowest: float) -> Tensor:
    """Nodes for log s, where the largest mass is 1 and the smallest exp(`lowest`)."""
    return torch.arange(math.log(FIRST), math.log(LAST) - lowest + STEP, STEP, dtype=torch.float64)


def _at_nodes(
    x: Tensor, c: Tensor, places: Tensor, chances: tuple[Tensor, Tensor], *, pairs: bool
) -> tuple[Tensor, Tensor | None]:
    """The sums over the nodes: (patch, concept) and (patch, source, target), whose diagonal has no meaning.

    `x` are dot products, (patch, concept), of which the largest mass has 0, and `c` is the logarithm of the mass that
    is always present; `places` are the nodes for log s, and `chances` those for p with their weights.
    """
    p, weights = chances
    # Above, exp(−mass) is 0 and mass · exp(−mass) would be inf · 0.
    mass = (places + x[..., None]).clamp(max=100.0).exp()
    rest = (places + c[:, None]).clamp(max=100.0).exp()
    gone = -torch.expm1(-mass)
    steps = torch.full_like(places, STEP)
    # Left of the first node the integrand is ds up to 1e-7, and its nodes a geometric series.
    steps[0] /= -math.expm1(-STEP)
    own = steps * mass * torch.exp(-mass - rest[:, None])  # ds is s times the step in log s
    inverse = (p * gone[..., None]).neg_().add_(1)  # (patch, concept, place, chance)
    everybody = inverse.prod(1) * weights
    inverse.reciprocal_()
    without = inverse * everybody[:, None] * own[..., None]
    coalition_mean = without.sum((-2, -1))
    if not pairs:
        return coalition_mean, None
    moved = inverse.mul_(gone[..., None]).neg_()
    return coalition_mean, moved.flatten(2) @ without.flatten(2).mT
