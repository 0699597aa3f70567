"""Attention rollout: attention of all layers multiplied, each mixed with the residual connection."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.methods._method import OneByOne, Shares
from apportion.methods._registry import forward_method
from apportion.methods.forward._captured_attention import CapturedAttention
from apportion.methods.forward._stacks import Stack, stacks_of, sum_of
from apportion.task import AttributionTask


@forward_method("rollout", cost="2 forward, 1 backward", source="Abnar and Zuidema 2020, arXiv 2005.00928")
@dataclass(frozen=True, kw_only=True)
class Rollout(OneByOne):
    r"""Attention rollout.

    $\tilde A = r I + (1 - r) \frac1H \sum_h A_h$ in each layer; the scores are the predicting position's row of
    $\tilde A^L \cdots \tilde A^1$, or the mean of the rows that a target reads. They sum to 1, are the same for every
    target that reads the same row, and rank tokens, but do not sum to the target.

    For an image the places are its patches and the model's own tokens (CLS, registers), whose scores are dropped. A
    region of several patches gets their sum. In a dual encoder each tower has its own row.

    Args:
        residual: r, the weight of the residual connection in a layer's output, from 0 to 1.

    Raises:
        ApportionError: `residual` is not from 0 to 1.

    Source:
        Abnar and Zuidema 2020, section 3, arXiv 2005.00928, with r = 0.5.
    """

    residual: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.residual <= 1:
            raise ApportionError(f"residual={self.residual} is not possible; give a part from 0 to 1, such as 0.5.")

    def alone(self, task: AttributionTask) -> Shares:
        """Roll out the attention."""
        seen = CapturedAttention(task)
        return Shares(scores=[sum_of([stack.laid(self._rows(stack, seen)) for stack in stacks_of(seen, self.name)])])

    def _rows(self, stack: Stack, seen: CapturedAttention) -> Float[Tensor, "targets places"]:
        # From the last layer down, a row at a time: no products of matrices.
        rows = stack.reading
        for call in reversed(stack.calls(seen)):
            attention = call.probabilities[0].detach().double().mean(0).cpu()
            rows = self.residual * rows + (1 - self.residual) * rows @ attention
        return rows
