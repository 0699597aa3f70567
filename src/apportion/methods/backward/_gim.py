"""GIM: gradients corrected for saturated softmaxes and for products."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from apportion.methods._method import Shares
from apportion.methods._registry import backward_method
from apportion.methods.backward._baseline import baseline_point, check_baseline
from apportion.methods.backward._neighbourhood import Neighbourhood, by_place, moves
from apportion.methods.backward._propagation import Propagation
from apportion.relevance import GIM as GIM_RULES
from apportion.relevance import Composite, Propagated
from apportion.task import AttributionTask


@backward_method("gim", conserves="exactly", cost="1 forward, 1 backward", source="Edin et al. 2025, arXiv 2505.17630")
@dataclass(frozen=True, kw_only=True)
class GIM(Propagation):
    r"""Gradient interaction modifications: $(x - b) \cdot \tilde\nabla f$ with a gradient changed at three places.

    A softmax's derivative is taken at a higher temperature, so that a score keeps its effect where others could replace
    it; norms are frozen; and the gradients of factors are scaled: queries ¼, keys ¼, values ½, both sides of a gated
    product ½. Activations keep their derivative.

    Args:
        temperature: T of the softmaxes' derivative; 1 is the derivative itself.
        baseline: b: `"zero"`, `"mean"`, a special token such as `"pad"`, a token id, or an image's `"blur"`; see
            `IntegratedGradients`. The authors' code takes the token of a space.

    Raises:
        ApportionError: An option does not fit.

    Source:
        Edin et al. 2025, arXiv 2505.17630. The factor 1/T of the softmax's derivative is left out, as in their code.
        The ledger and the share of the baseline in it are ours.
    """

    composite: Composite = field(default=GIM_RULES, init=False, repr=False)
    temperature: float = 2.0
    baseline: str | int = "zero"

    def __post_init__(self) -> None:
        check_baseline(self.baseline)
        object.__setattr__(self, "composite", replace(GIM_RULES, temperature=self.temperature))

    @property
    def options(self) -> Mapping[str, Any]:
        """The composite, and the baseline."""
        return {**super().options, "baseline": self.baseline}

    def attribute(self, task: AttributionTask) -> Shares:
        """Propagate modified gradients to the embeddings of the task's tokens."""
        if self.baseline == "zero" or len(task.prompts) == 1:
            return super().attribute(task)
        return Shares.joined([super(GIM, self).attribute(task.single(b)) for b in range(len(task.prompts))])

    def _shares(self, propagated: Propagated, task: AttributionTask) -> Shares:
        shares = super()._shares(propagated, task)
        if self.baseline == "zero":
            return shares
        neighbourhood = Neighbourhood(task, batch_size=None, doing="baseline")
        point = baseline_point(neighbourhood, self.baseline)
        moving = {k: g for k, g in propagated.gradients.items() if k in propagated.leaves}
        moving = {k: g for k, g in moving.items() if moves(propagated.leaves[k], task)}
        gradients = by_place(task.trace, moving)
        nothing = {place: x.new_zeros(neighbourhood.targets, *x.shape) for place, x in point.items()}
        removed = neighbourhood.shares(
            nothing | {place: point[place] * gradient for place, gradient in gradients.items()}
        )
        ledger = shares.ledger
        if ledger is not None:
            zero = torch.zeros_like(ledger.total)
            other = neighbourhood.ledger(removed, zero, name="baseline", gap="gap").lines
            own = [line for line in other if line in ledger.lines]  # of images, tokens and special tokens
            lines = {line: amount - other[line] if line in own else amount for line, amount in ledger.lines.items()}
            lines["baseline"] = removed.to(torch.float64).sum(-1)
            details = {line: entries for line, entries in ledger.details.items() if line not in own}
            ledger = replace(ledger, lines=lines, details=details)
        return replace(shares, scores=[shares.scores[0] - removed.to(shares.scores[0])], ledger=ledger)
