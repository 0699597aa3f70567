"""Grad-CAM: one layer's attention or features, each head or dimension weighted by its mean gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.methods._method import OneByOne, Shares
from apportion.methods._registry import forward_method
from apportion.methods.forward._captured_attention import CapturedAttention, layer_of, outputs_read
from apportion.methods.forward._layer_inputs import reading_through
from apportion.methods.forward._stacks import Stack, stacks_of, sum_of
from apportion.task import AttributionTask


@forward_method(
    "grad-cam",
    cost="2 forward, 3 backward",
    source="Selvaraju et al. 2017, arXiv 1610.02391; on attention: Chefer, Gur and Wolf 2021, arXiv 2012.09838",
)
@dataclass(frozen=True, kw_only=True)
class AttentionGradCAM(OneByOne):
    r"""Grad-CAM with a layer's attention, or its inputs, as the feature maps.

    `at="attention"`: $\left(\frac1H \sum_h g_h A_h\right)^+$ with $g_h$ the mean of $\nabla A_h$ over queries and keys;
    the scores are the predicting position's row, or the mean of rows if a target reads several. Images as in `Rollout`.

    `at="features"`, as usual for images: $\left(\sum_k \alpha_k x_k\right)^+$ at each place, with $x$ the layer's input
    hidden states and $\alpha_k$ the mean of $\nabla x_k$ over the places of features. The output of the last layer does
    not work: a target that reads CLS has no gradient at the patches there.

    Args:
        layer: The layer's index; negative numbers count from the last.
        at: `"attention"` or `"features"`.

    Raises:
        ApportionError: There is no such layer, or the model has an encoder and a decoder.

    Source:
        Selvaraju et al. 2017, arXiv 1610.02391, eqs. 1-2, for `"features"`. For `"attention"`:
        Chefer, Gur and Wolf 2021, arXiv 2012.09838 (baseline "GradCAM"), without their scaling of the map to [0, 1].
    """

    layer: int = -1
    at: Literal["attention", "features"] = "attention"

    def __post_init__(self) -> None:
        if self.at not in ("attention", "features"):
            raise ApportionError(f"at={self.at!r} is not known; use 'attention' or 'features'.")
        if not isinstance(self.layer, int) or isinstance(self.layer, bool):
            raise ApportionError(f"layer={self.layer!r} is no number of a layer; give one such as -1, the last.")

    def alone(self, task: AttributionTask) -> Shares:
        """Weight the layer's attention or features."""
        seen = CapturedAttention(task)
        stacks = stacks_of(seen, self.name)
        for stack in stacks:
            count = len(stack.numbers)
            if not -count <= self.layer < count:
                raise ApportionError(
                    f"layer={self.layer} was given and the model has {count} layers of attention; "
                    f"use {-count} to {count - 1}."
                )
        if self.at == "features":
            return Shares(scores=[self._of_features(seen, stacks)])
        return Shares(scores=[sum_of([stack.laid(self._of_attention(stack, seen)) for stack in stacks])])

    def _of_attention(self, stack: Stack, seen: CapturedAttention) -> Float[Tensor, "targets places"]:
        attention = stack.calls(seen)[self.layer].probabilities[0].detach().double()
        rows = []
        for target, start in enumerate(stack.reading):
            gradient = stack.gradients(seen, target)[self.layer].double()
            weighted = (gradient.mean((1, 2), keepdim=True) * attention).mean(0).clamp(min=0)
            rows.append(start @ weighted.cpu())
        return torch.stack(rows)

    def _of_features(self, seen: CapturedAttention, stacks: Sequence[Stack]) -> Float[Tensor, "targets features"]:
        task = seen.task
        layers = [layer_of(stack.calls(seen)[self.layer].path) for stack in stacks]
        hidden: dict[int, Tensor] = {}

        def note(number: int, states: Tensor) -> Tensor:
            hidden[number] = states
            return states

        with reading_through(task.head.model, layers, note):
            outputs = outputs_read(task, task.recorded(detail=False).output)
        maps = []
        for number, stack in enumerate(stacks):
            states, rows, ours = hidden[number], [], stack.features >= 0
            if states.shape[:-1] != (1, len(ours)):
                raise ApportionError(
                    f"the layer {layers[number]!r} reads {tuple(states.shape)} for {len(ours)} places, so its features "
                    "cannot be laid over them; use at='attention'."
                )
            for target in range(len(task.targets)):
                seeds = [seed[target] for seed in task.target_values.seeds]
                (gradient,) = seen.backward(outputs, seeds, [states])
                found = torch.zeros_like(states) if gradient is None else gradient
                weights = found[0].double().cpu()[ours].mean(0)
                rows.append((states[0].detach().double().cpu() @ weights).clamp(min=0))
            maps.append(stack.laid(torch.stack(rows)))
        return sum_of(maps)
