"""Comprehensiveness and sufficiency: what the target loses without the features named first, and with only them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool
from torch import Tensor

from apportion.core import ApportionError
from apportion.evaluation._case import Case
from apportion.evaluation._curves import TIES, falling, without
from apportion.evaluation._measure import Found, Measure
from apportion.evaluation._registry import register_measure
from apportion.methods import Method
from apportion.results import Attribution
from apportion.results.evaluation import Column


@register_measure("comprehensiveness-sufficiency")
@final
@dataclass(frozen=True, kw_only=True)
class ComprehensivenessSufficiency(Measure):
    r"""What the target loses when its rationale is removed, and when nothing but the rationale is left.

    The rationale $r_q$ are the features with the largest signed shares, a fraction $q$ of all that can be absent and at
    least one; equal shares are ordered at random. Comprehensiveness is the mean over the fractions of
    $f(x) - f(x \setminus r_q)$, sufficiency that of $f(x) - f(r_q)$.

    Args:
        fractions: The sizes of the rationale, above 0 and at most 1; each counts, also where two come to as many
            features.

    Raises:
        ApportionError: No fraction is given, or one is not above 0 and at most 1.

    Source:
        DeYoung et al. 2020, arXiv 1911.03429, §4.2 with the aggregation over 1, 5, 10, 20 and 50 %, there of
        probabilities.
    """

    fractions: tuple[float, ...] = (0.01, 0.05, 0.1, 0.2, 0.5)

    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            name="comprehensiveness",
            better="higher",
            meaning="drop of the target without the features named first, in the target's unit",
        ),
        Column(
            name="sufficiency",
            better="lower",
            meaning="drop of the target with only the features named first, in the target's unit",
        ),
        Column(name="comprehensiveness_probability", better="higher", meaning="the same of the target's probability"),
        Column(name="sufficiency_probability", better="lower", meaning="the same of the target's probability"),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "fractions", tuple(self.fractions))
        if not self.fractions or not all(0 < fraction <= 1 for fraction in self.fractions):
            raise ApportionError(
                f"fractions={self.fractions} are not possible; give one or more numbers above 0 and at most 1."
            )

    def of(self, case: Case, attribution: Attribution, method: Method) -> Found:
        """Both, in the target's unit and as probabilities."""
        ranked = case.ranked(attribution)
        removed, kept = rationales(falling(ranked.scores, case.generator(TIES)), self.fractions)
        full, values = ranked.game.full, ranked.game.values(torch.cat([removed, kept]))
        lost = (full - values).unflatten(0, (2, len(self.fractions))).mean(1)
        both = lost.tolist()
        nothing = float("nan")
        return {
            "comprehensiveness": both[0][0],
            "sufficiency": both[1][0],
            "comprehensiveness_probability": both[0][1] if len(full) > 1 else nothing,
            "sufficiency_probability": both[1][1] if len(full) > 1 else nothing,
        }


def rationales(
    order: Sequence[int], fractions: Sequence[float]
) -> tuple[Bool[Tensor, "fractions players"], Bool[Tensor, "fractions players"]]:
    """The coalitions without the first of an order, and those of the first alone."""
    removed = without(order, [max(1, round(fraction * len(order))) for fraction in fractions])
    return removed, ~removed
