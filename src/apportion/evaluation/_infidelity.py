"""Infidelity: how far sums of shares are from the drops measured when their features are removed together."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.evaluation._case import Case
from apportion.evaluation._measure import Found, Measure
from apportion.evaluation._registry import register_measure
from apportion.methods import Method
from apportion.results import Attribution
from apportion.results.evaluation import Column

#: Numbers that differ by less than this part of their size are equal but for rounding.
ROUNDING = 1e-10


@register_measure("infidelity")
@final
@dataclass(frozen=True, kw_only=True)
class Infidelity(Measure):
    r"""Whether the shares of random sets of features foretell what removing these sets does to the target.

    With the summed share $s = \sum_{i \in S} \phi_i$ and the measured drop $d = f(x) - f(x \setminus S)$, all sets $S$
    being equally large, infidelity is the fraction of the drops' variance that the best fit by the shares leaves,

    $$\min_{\beta \ge 0,\, \alpha} \mathrm{E}\,(\alpha + \beta s - d)^2 \,/\, \mathrm{Var}\,d ,$$

    and `infidelity_correlation` is Pearson's $r$ between $s$ and $d$. Infidelity is 0 where the drops are sums of the
    shares in some unit, and 1 where the shares say nothing or the opposite. For one item it is $1 - \max(r, 0)^2$.
    Where all shares are equal, $r$ is not defined and infidelity 1; where all drops are, neither is.

    All methods see the same sets, unless they divide among other features.

    Args:
        samples: How many sets are drawn; where no more exist, each is taken once.
        removed: The part of the features that is removed, at least one of them.

    Raises:
        ApportionError: `samples` is below 2, or `removed` does not lie between 0 and 1.

    Source:
        Yeh et al. 2019, arXiv 1901.09392, with the optimal scale β; Bhatt et al. 2020, arXiv 2005.00631, for the
        correlation over sets of one size. The offset α, which is a constant share for every feature, the bound on β and
        the division by the variance, without which items cannot be compared, are ours.
    """

    samples: int = 100
    removed: float = 0.5

    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            name="infidelity",
            better="lower",
            meaning="fraction of the variance of measured drops that sums of shares do not explain",
        ),
        Column(
            name="infidelity_correlation",
            better="higher",
            meaning="Pearson correlation of sums of shares with measured drops",
        ),
    )

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ApportionError(f"samples={self.samples} is not possible; give 2 or more.")
        if not 0 < self.removed < 1:
            raise ApportionError(f"removed={self.removed} is not possible; give a number between 0 and 1, such as 0.5.")

    def of(self, case: Case, attribution: Attribution, method: Method) -> Found:
        """The fraction left unexplained, and the correlation."""
        ranked = case.ranked(attribution)
        sets = sets_of(ranked.game.players, self.removed, self.samples, case.generator(self.name))
        drops = ranked.game.full[0] - ranked.game.values(~sets)[:, 0]
        infidelity, correlation = unexplained(sets.double() @ ranked.scores, drops)
        return {"infidelity": infidelity, "infidelity_correlation": correlation}


def sets_of(players: int, removed: float, samples: int, generator: np.random.Generator) -> Bool[Tensor, "sets players"]:
    """Random sets of a given number of players, or all such sets if there are few."""
    size = max(1, round(players * removed))
    if math.comb(players, size) <= samples:
        chosen = np.array(list(itertools.combinations(range(players), size)))
    else:
        chosen = generator.random((samples, players)).argsort(1)[:, :size]
    sets = torch.zeros(len(chosen), players, dtype=torch.bool)
    return sets.scatter(1, torch.from_numpy(chosen), True)


def unexplained(sums: Float[Tensor, " sets"], drops: Float[Tensor, " sets"]) -> tuple[float, float]:
    """The fraction of the drops' variance that a rising line through the sums leaves, and the correlation."""
    x, y = sums - sums.mean(), drops - drops.mean()
    if _is_nothing(y, drops):
        return float("nan"), float("nan")
    if _is_nothing(x, sums):
        return 1.0, float("nan")
    correlation = float((x @ y / (x.norm() * y.norm())).clamp(-1, 1))
    return 1 - max(correlation, 0.0) ** 2, correlation


def _is_nothing(centred: Tensor, values: Tensor) -> bool:
    """Whether all that is left of numbers without their mean is rounding."""
    return bool(centred.abs().amax() <= ROUNDING * values.abs().amax())
