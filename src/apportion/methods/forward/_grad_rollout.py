"""Gradient rollout: attention rollout with each layer's attention weighted by its gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.methods._method import OneByOne, Shares
from apportion.methods._registry import forward_method
from apportion.methods.forward._captured_attention import CapturedAttention
from apportion.methods.forward._stacks import Stack, stacks_of, sum_of
from apportion.task import AttributionTask


@forward_method(
    "grad-rollout",
    cost="2 forward, 3 backward",
    source="Abnar and Zuidema 2020, arXiv 2005.00928; with gradients: Gildenblat 2020, vit-explain",
)
@dataclass(frozen=True, kw_only=True)
class GradRollout(OneByOne):
    r"""Attention rollout of gradient ⊙ attention.

    In each layer $\bar A = \left(\frac1H \sum_h \nabla A_h \odot A_h\right)^+$ and $\hat A$ is $\bar A + I$ with rows
    that sum to 1; the scores are the predicting position's row of $\hat A^L \cdots \hat A^1$, or the mean of rows
    if a target reads several. Unlike in Chefer's rule, heads may cancel and rows are scaled. Images as in `Rollout`.

    Source:
        Gildenblat 2020, github.com/jacobgil/vit-explain, without dropping the smallest entries; after Abnar and
        Zuidema 2020, arXiv 2005.00928.
    """

    def alone(self, task: AttributionTask) -> Shares:
        """Roll out the weighted attention."""
        seen = CapturedAttention(task)
        return Shares(scores=[sum_of([stack.laid(_rows(stack, seen)) for stack in stacks_of(seen, self.name)])])


def _rows(stack: Stack, seen: CapturedAttention) -> Float[Tensor, "targets places"]:
    calls, rows = stack.calls(seen), []
    for target, row in enumerate(stack.reading):
        for call, gradient in zip(reversed(calls), reversed(stack.gradients(seen, target)), strict=True):
            weighted = (call.probabilities[0].detach() * gradient).double().mean(0).clamp(min=0).cpu()
            # From the last layer down: dividing by the row sums first needs no matrix with the identity.
            scaled = row / (1 + weighted.sum(-1))
            row = scaled + scaled @ weighted
        rows.append(row)
    return torch.stack(rows)
