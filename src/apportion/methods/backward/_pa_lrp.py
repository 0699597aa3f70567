"""PA-LRP: positions get shares of their own, also where they only rotate queries and keys."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from apportion.core import ApportionError
from apportion.methods._method import Shares
from apportion.methods._registry import backward_method
from apportion.methods.backward._propagation import Propagation
from apportion.relevance import PA_LRP, Propagated, Trace
from apportion.task import AttributionTask


@backward_method(
    "pa-lrp", conserves="exactly", cost="2 forward, 1 backward", source="Bakish et al. 2025, arXiv 2506.02138"
)
class PALRP(Propagation):
    """AttnLRP over pairs of token and position: position terms get shares of their own at each place.

    Learned positions are leaves as in AttnLRP. The cosines and sines of rotary embeddings become leaves too, and get
    half of each product with queries and keys. A table of relative biases (T5) is credited to the key's place.

    The result's `position_scores` hold the scores of positions; `positions="added"` adds them to the tokens'.

    Raises:
        ApportionError: The model has none of these (Mamba; ALiBi; rotations by complex numbers or by custom tables):
            the result would be that of AttnLRP.

    Source:
        Bakish et al. 2025, arXiv 2506.02138. Their code divides the relevance of tokens, and that of each layer's
        cosines and sines, by its largest magnitude, takes absolute values of the latter and adds all; we keep amounts,
        summed over layers, so that the ledger balances.
    """

    def __init__(self) -> None:
        super().__init__(PA_LRP)

    def attribute(self, task: AttributionTask) -> Shares:
        """Propagate relevance to the embeddings of the task's tokens and positions."""
        # One by one, since all examples of a batch share the same rotary angles.
        return Shares.joined([self._of_example(task.single(b)) for b in range(len(task.prompts))])

    def _of_example(self, task: AttributionTask) -> Shares:
        turned = _Turned(task)
        if not any(leaf.role == "positions" for leaf in turned.trace.leaves.values()):
            raise ApportionError(
                f"{type(task.head.model).__name__} has no position embeddings, cosines and sines, or relative "
                "biases that could get shares, so pa-lrp has nothing to add; use attnlrp or input-x-gradient."
            )
        return super().attribute(turned)

    def _shares(self, propagated: Propagated, task: AttributionTask) -> Shares:
        shares = super()._shares(propagated, task)
        relative = _of_relative(propagated, task)
        if relative is None:
            return shares
        before = None if shares.position_scores is None else shares.position_scores[0]
        total = relative.to(shares.scores[0]) if before is None else before + relative.to(before)
        return replace(shares, position_scores=[total])


class _Turned(AttributionTask):
    """One example, recorded with its cosines and sines as leaves."""

    def __init__(self, task: AttributionTask) -> None:
        super().__init__(
            task.head, task.prompts, task.resolved[0], detail=task.detail, rows=task.rows, progress=task.progress
        )
        self.passes = task.passes

    @cached_property
    def trace(self) -> Trace:
        """The recorded forward pass."""
        return self.recorded(detail=self.detail, rotary=True)

    def in_detail(self) -> AttributionTask:
        """The same, with a forward pass that tells all modules apart."""
        again = _Turned(super().in_detail())
        again.detail = True
        return again


def _of_relative(propagated: Propagated, task: AttributionTask) -> Tensor | None:
    """Scores by target and feature of tables of relative biases, at the place of the key."""
    prompt = task.prompts[0]
    scores = torch.zeros(len(task.targets), len(prompt.features), dtype=torch.float64)
    found = False
    for name, leaf in propagated.leaves.items():
        amount = propagated.relevance[name]
        if leaf.role != "positions" or leaf.added or "relative" not in name.lower() or amount.ndim != 3:
            continue
        start = 0
        for part, count in prompt.parts.items():
            if part.startswith("decoder") == ("decoder" in name) and amount.shape[-1] == count:
                scores[:, start : start + count] += amount.sum(1).to(scores)
                found = True
            start += count
    return scores if found else None
