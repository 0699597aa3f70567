"""Leave-one-out inside a model, literally: one hook, one layer and one token at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def read_with(
    model: PreTrainedModel, inputs: dict[str, Tensor], layer: nn.Module, change: Callable[[Tensor], Tensor]
) -> Tensor:
    """The logits of a model one of whose layers reads something else, (place, output)."""

    def hook(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (change(arguments[0]), *arguments[1:])

    handle = layer.register_forward_pre_hook(hook)
    try:
        return model(**inputs).logits[0]
    finally:
        handle.remove()


def drop(
    model: PreTrainedModel,
    inputs: dict[str, Tensor],
    layer: nn.Module,
    token: int,
    target: Callable[[Tensor], Tensor],
    absence: str,
) -> float:
    """How much the target falls when the layer reads zeros, or the mean over tokens, for one token."""

    def change(hidden: Tensor) -> Tensor:
        changed = hidden.clone()
        for k in range(hidden.shape[-1]):
            total = 0.0
            for place in range(hidden.shape[1]):
                total += hidden[0, place, k]
            changed[0, token, k] = 0.0 if absence == "zero" else total / hidden.shape[1]
        return changed

    with torch.no_grad():
        before = target(model(**inputs).logits[0])
        after = target(read_with(model, inputs, layer, change))
    return float(before - after)


def input_times_gradient(
    model: PreTrainedModel, inputs: dict[str, Tensor], layer: nn.Module, target: Callable[[Tensor], Tensor]
) -> list[float]:
    """For each token what the layer reads, times the target's derivative by it, summed over dimensions."""
    kept: list[Tensor] = []

    def keep(hidden: Tensor) -> Tensor:
        kept.append(hidden.detach().requires_grad_(True))
        return kept[0]

    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(target(read_with(model, inputs, layer, keep)), kept)
    read = kept[0].detach()
    return [float(read[0, i] @ gradient[0, i]) for i in range(gradient.shape[1])]
