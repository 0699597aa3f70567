"""Shift invariance: attention scores that are all higher by a constant are the same model to every softmax."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.evaluation._case import Case
from apportion.evaluation._measure import Found, Measure
from apportion.evaluation._registry import register_measure
from apportion.methods import Method, Propagation
from apportion.models.anatomy import Heads, attention_through, raised_scores
from apportion.results import Attribution
from apportion.results.evaluation import Column
from apportion.task import AttributionTask

#: How far the target may move, as a part of the largest output: what rounding does.
TOLERANCE = 1e-4


@register_measure("shift-invariance")
@final
@dataclass(frozen=True, kw_only=True)
class ShiftInvariance(Measure):
    r"""How much an explanation changes when every attention score is raised by a constant before its softmax.

    The function is the same, so the shares should be. Of the relevance $R_i$ of a softmax's input, where propagation
    halts on its way, the same cannot be asked of every method: input times derivative moves by $c\,\partial f/\partial
    x_i$ when $x$ becomes $x + c$, though these sum to 0 over a row. So the relevance that the raised scores hold is
    compared as well, for methods that propagate relevance by a composite.

    Both are written out in the same way, with and without the shift; 0 is no change, 1 one as large as the relevance.

    Args:
        shift: What is added to the scores, which are logits.

    Raises:
        ApportionError: `shift` is 0 or not finite, the model's attention does not go through transformers' interface,
            or the target changes.

    Source:
        The rule for the softmax is Achtibat et al. 2024, arXiv 2402.05602, prop. 3.1; implementation invariance is
        Sundararajan et al. 2017, arXiv 1703.01365.
    """

    shift: float = 1.0

    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            name="shift_change",
            better="lower",
            meaning="change of the shares when all attention scores are raised, as a part of the shares' sizes",
        ),
        Column(
            name="shift_change_at_scores",
            better="lower",
            meaning="the same of the relevance that the attention scores hold on the way",
        ),
    )

    def __post_init__(self) -> None:
        if not math.isfinite(self.shift) or self.shift == 0:
            raise ApportionError(f"shift={self.shift} is not possible; give a number other than 0.")

    def of(self, case: Case, attribution: Attribution, method: Method) -> Found:
        """Both changes; the second is NaN for a method that propagates no relevance."""
        plain, raised = (_explained(case, method, shift) for shift in (0.0, self.shift))
        players = [case.ranked(one.attribution).scores for one in (plain, raised)]
        scores = change(plain.at_scores, raised.at_scores) if isinstance(method, Propagation) else math.nan
        return {"shift_change": change(*players), "shift_change_at_scores": scores}


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What a method finds where attention is written out.

    Args:
        attribution: Of the case's target.
        at_scores: Relevance of every attention score that some arrived at, in the order of the model's calls.
    """

    attribution: Attribution
    at_scores: Float[Tensor, " score"]


def _explained(case: Case, method: Method, shift: float) -> Explained:
    """A method's answer to the case, every attention written out with its scores raised."""
    model, engine = case.engine.model, case.engine
    arrived: list[Tensor | None] = []
    called = False

    def attend(heads: Heads) -> tuple[Tensor, Tensor | None]:
        nonlocal called
        called, scores = True, heads.scores()
        if scores.requires_grad:
            _watch(scores, arrived)
        probabilities = heads.probabilities(scores)
        return heads.mixed(probabilities), probabilities

    with attention_through(model, attend), raised_scores(shift):
        task = engine.prepare(case.item.prompt, case.task.resolved[0], [method])
        _check_same(case, task, shift)
        if not called:
            raise ApportionError(
                f"{type(model).__name__} has no attention that goes through transformers' attention interface, so its "
                "scores cannot be raised; leave shift-invariance out."
            )
        (attribution,) = engine.attribute(task, method)
    held = [amount.flatten().double().cpu() for amount in arrived if amount is not None]
    return Explained(attribution=attribution, at_scores=torch.cat(held) if held else torch.zeros(1).double())


def _watch(scores: Tensor, arrived: list[Tensor | None]) -> None:
    """Note the relevance of some scores, their value times the derivative that comes back to them."""
    place, value = len(arrived), scores.detach()
    arrived.append(None)

    def note(derivative: Tensor | None) -> None:
        if derivative is not None:  # nothing comes back through what a composite holds constant
            arrived[place] = value * derivative.detach()

    scores.register_hook(note)


def _check_same(case: Case, task: AttributionTask, shift: float) -> None:
    own, other = case.task.target_values.values[0][0], task.target_values.values[0][0]
    size = max(float(output.detach().abs().max()) for output in task.target_values.outputs)
    tolerance = max(TOLERANCE, 8 * max(torch.finfo(output.dtype).eps for output in task.target_values.outputs))
    if not abs(own - other) <= tolerance * max(1.0, abs(shift)) * size:
        raise ApportionError(
            f"with its attention scores raised by {shift:g}, {type(case.engine.model).__name__} gives {other:.6g} "
            f"and not {own:.6g}, so it is another function; its attention is no softmax of scores."
        )


def change(before: Float[Tensor, " entry"], after: Float[Tensor, " entry"]) -> float:
    """The sizes of the differences as a part of the sizes before; 0 where there is nothing before and after.

    Infinite where there is nothing before only.
    """
    moved, size = float((after - before).abs().sum()), float(before.abs().sum())
    return 0.0 if moved == 0 else moved / size if size else math.inf
