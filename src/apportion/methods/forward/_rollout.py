"""Attention rollout: attention of all layers multiplied, each mixed with the residual connection."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from apportion._errors import ApportionError
from apportion._question import Question
from apportion.methods._method import Method, Shares
from apportion.methods._registry import register
from apportion.methods.forward._attended import Attended


@register(
    "rollout",
    family="forward",
    cost="2 forward, 1 backward",
    source="Abnar and Zuidema 2020, arXiv 2005.00928",
)
@dataclass(frozen=True, kw_only=True)
class Rollout(Method):
    r"""Attention rollout.

    $\tilde A = r I + (1 - r) \frac1H \sum_h A_h$ in each layer; the scores are the predicting position's row of
    $\tilde A^L \cdots \tilde A^1$, or the mean of the rows that a target reads. They sum to 1, are the same for every
    target that reads the same row, and rank tokens: they are no amounts of the target.

    Args:
        residual: r, how much of a layer's output counts as passed on by the residual connection, from 0 to 1.

    Raises:
        ApportionError: `residual` is not from 0 to 1.

    Source:
        Abnar and Zuidema 2020, section 3, arXiv 2005.00928, with r = 0.5.
    """

    residual: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.residual <= 1:
            raise ApportionError(f"residual={self.residual} is not possible; give a part from 0 to 1, such as 0.5.")

    def attribute(self, question: Question) -> Shares:
        """Roll out the attention of each example."""
        return Shares(scores=[self._scores(question.alone(b)) for b in range(len(question.prompts))])

    def _scores(self, question: Question) -> Float[Tensor, "targets _"]:
        seen = Attended(question)
        calls = seen.self_attentions(self.name)
        # From the last layer down, a row at a time: no products of matrices.
        rows = torch.stack(seen.reading)
        for call in reversed(calls):
            attention = call.probabilities[0].detach().double().mean(0).cpu()
            rows = self.residual * rows + (1 - self.residual) * rows @ attention
        return rows
