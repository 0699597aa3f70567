"""Grad-CAM on attention: one layer's attention, each head weighted by its mean gradient."""

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
    "grad-cam",
    family="forward",
    cost="2 forward, 3 backward",
    source="Selvaraju et al. 2017, arXiv 1610.02391; on attention: Chefer, Gur and Wolf 2021, arXiv 2012.09838",
)
@dataclass(frozen=True, kw_only=True)
class AttentionGradCAM(Method):
    r"""Grad-CAM with a layer's attention as the feature maps.

    $\left(\frac1H \sum_h g_h A_h\right)^+$ with $g_h$ the mean of $\nabla A_h$ over queries and keys; the scores are
    the predicting position's row, or the mean of rows where a target reads several.

    Args:
        layer: Which layer's attention; negative numbers count from the last.

    Raises:
        ApportionError: There is no such layer, or the model has an encoder and a decoder.

    Source:
        Chefer, Gur and Wolf 2021, arXiv 2012.09838 (baseline "GradCAM"), after Selvaraju et al. 2017, arXiv
        1610.02391. They scale the map to [0, 1] at the end; here it keeps its size.
    """

    layer: int = -1

    def __post_init__(self) -> None:
        if not isinstance(self.layer, int) or isinstance(self.layer, bool):
            raise ApportionError(f"layer={self.layer!r} is no number of a layer; give one such as -1, the last.")

    def attribute(self, question: Question) -> Shares:
        """Weight the layer's attention for each example."""
        return Shares(scores=[self._scores(question.alone(b)) for b in range(len(question.prompts))])

    def _scores(self, question: Question) -> Float[Tensor, "targets _"]:
        seen = Attended(question)
        calls = seen.self_attentions(self.name)
        if not -len(calls) <= self.layer < len(calls):
            raise ApportionError(
                f"layer={self.layer} was given and the model has {len(calls)} layers of attention; "
                f"use {-len(calls)} to {len(calls) - 1}."
            )
        attention = calls[self.layer].probabilities[0].detach().double()
        rows = []
        for target, start in enumerate(seen.reading):
            gradient = seen.gradients(target)[self.layer].double()
            weighted = (gradient.mean((1, 2), keepdim=True) * attention).mean(0).clamp(min=0)
            rows.append(start @ weighted.cpu())
        return torch.stack(rows)
