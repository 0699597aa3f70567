"""Perturbation curves: how fast the target falls when what matters most, or least, is taken away first."""

from __future__ import annotations

from collections.abc import Sequence
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

#: The purpose of the random numbers that order equal shares: the same for all measures, which then share coalitions.
TIES = "ties"


@register_measure("perturbation-curves")
@final
@dataclass(frozen=True, kw_only=True)
class PerturbationCurves(Measure):
    """The target while features are removed: the most relevant first (MoRF), or the least relevant first (LeRF).

    The area between the two curves (ABPC, also SRG) is large where an explanation ranks well; a random order has 0 on
    average. Shares are ordered by their signed value, and equal ones at random. Where a method divides among words or
    sentences, these are removed whole.

    Args:
        steps: How many times something is removed, about as much each time; of fewer features, one at a time.

    Raises:
        ApportionError: `steps` is below 1.

    Source:
        Samek et al. 2017, doi:10.1109/TNNLS.2016.2599820, for MoRF; Ali et al. 2022, arXiv 2202.07304, and Achtibat et
        al. 2024, arXiv 2402.05602, for the area between the curves; Blücher et al. 2024, arXiv 2401.06654, who call it
        the symmetric relevance gain.
    """

    steps: int = 10

    columns: ClassVar[tuple[Column, ...]] = (
        Column(name="abpc", better="higher", meaning="area between the LeRF and the MoRF curve, in the target's unit"),
        Column(name="abpc_probability", better="higher", meaning="the same of the target's probability"),
        Column(name="morf", better="", meaning="the target, the most relevant features removed first", curve=True),
        Column(name="lerf", better="", meaning="the target, the least relevant features removed first", curve=True),
    )

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ApportionError(f"steps={self.steps} is not possible; give 1 or more.")

    def of(self, case: Case, attribution: Attribution, method: Method) -> Found:
        """Both curves, at equally spaced fractions, and the area between them."""
        ranked = case.ranked(attribution)
        order = falling(ranked.scores, case.generator(TIES))
        removed = removal_steps(len(order), self.steps)
        coalitions = torch.cat([without(o, removed) for o in (order, order[::-1])])
        morf, lerf = ranked.game.values(coalitions).chunk(2)
        areas = area(lerf - morf, removed).tolist()
        return {
            "abpc": areas[0],
            "abpc_probability": areas[1] if len(areas) > 1 else float("nan"),
            "morf": _at_fractions(morf[:, 0], removed, self.steps),
            "lerf": _at_fractions(lerf[:, 0], removed, self.steps),
        }


def falling(scores: Float[Tensor, " players"], generator: np.random.Generator) -> list[int]:
    """Players by falling score; those with equal scores in random order."""
    shuffled = generator.permutation(len(scores))
    return [int(i) for i in shuffled[np.argsort(-scores.numpy()[shuffled], kind="stable")]]


def removal_steps(players: int, steps: int) -> list[int]:
    """How many players are gone after each step, from none to all."""
    return sorted({round(players * step / steps) for step in range(steps + 1)})


def without(order: Sequence[int], removed: Sequence[int]) -> Bool[Tensor, "steps players"]:
    """The coalitions that are left when the first of an order are removed."""
    coalitions = torch.ones(len(removed), len(order), dtype=torch.bool)
    for row, count in enumerate(removed):
        coalitions[row, list(order[:count])] = False
    return coalitions


def area(curve: Float[Tensor, "removed outputs"], removed: Sequence[int]) -> Float[Tensor, " outputs"]:
    """The area under a curve over the fraction that is removed: its mean height, by the trapezoid rule."""
    fractions = torch.tensor(removed, dtype=curve.dtype) / removed[-1]
    return torch.trapezoid(curve, fractions[:, None], dim=0)


def _at_fractions(curve: Float[Tensor, " removed"], removed: Sequence[int], steps: int) -> list[float]:
    """A curve at the fractions 0, 1/steps, …, 1, between whose own points it is straight."""
    found: list[float] = np.interp(np.linspace(0, removed[-1], steps + 1), removed, curve.numpy()).tolist()
    return found
