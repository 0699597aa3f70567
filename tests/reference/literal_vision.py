"""Methods on images, plainly: loops over patches, explicit products of matrices, the model's own attention maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Value = Callable[[Any], Tensor]


def eager(model: nn.Module, inputs: Mapping[str, Tensor], value: Value) -> tuple[Any, Tensor]:
    """A model's output with its attentions and hidden states, and the number that is explained."""
    model.set_attn_implementation("eager")
    output = model(**inputs, output_attentions=True, output_hidden_states=True)
    return output, value(output)


def by_patch(amounts: Tensor, side: int) -> Tensor:
    """Sums over squares of (channel, height, width), row by row."""
    height, width = amounts.shape[-2:]
    return torch.stack(
        [
            amounts[:, top : top + side, left : left + side].sum()
            for top in range(0, height, side)
            for left in range(0, width, side)
        ]
    )


def gradient(model: nn.Module, pixels: Tensor, value: Value) -> Tensor:
    """The derivative of a number by (1, channel, height, width)."""
    pixels = pixels.detach().clone().requires_grad_(True)
    value(model(pixel_values=pixels)).backward()
    assert pixels.grad is not None
    return pixels.grad


def integrated(model: nn.Module, pixels: Tensor, baseline: Tensor, value: Value, steps: int) -> Tensor:
    """Integrated gradients by the midpoint rule."""
    total = torch.zeros_like(pixels)
    for step in range(steps):
        total += gradient(model, baseline + (step + 0.5) / steps * (pixels - baseline), value) / steps
    return (pixels - baseline) * total


def blurred(pixels: Tensor, sigma: float) -> Tensor:
    """A Gaussian filter by two-dimensional convolution, its weights scaled to sum 1 inside the image."""
    reach = max(pixels.shape[-2:]) - 1
    line = torch.exp(-(torch.arange(-reach, reach + 1).to(pixels) ** 2) / (2 * sigma**2))
    kernel = torch.outer(line, line)[None, None]
    inside = F.conv2d(torch.ones_like(pixels[:, :1]), kernel, padding=reach)
    return torch.cat([F.conv2d(plane[:, None], kernel, padding=reach) / inside for plane in pixels.unbind(1)], 1)


def rollout(attentions: Sequence[Tensor], residual: float = 0.5) -> Tensor:
    """The product of the layers' mixed attention, (place, place)."""
    joint = torch.eye(attentions[0].shape[-1]).to(attentions[0])
    for attention in attentions:
        joint = (residual * torch.eye(len(joint)).to(joint) + (1 - residual) * attention[0].mean(0)) @ joint
    return joint


def grad_rollout(attentions: Sequence[Tensor], number: Tensor) -> Tensor:
    """The product of the layers' positive gradient times attention with the identity, rows scaled."""
    joint = torch.eye(attentions[0].shape[-1]).to(attentions[0])
    for attention, slope in zip(attentions, torch.autograd.grad(number, attentions, retain_graph=True), strict=True):
        mixed = (slope * attention)[0].mean(0).clamp(min=0) + torch.eye(len(joint)).to(joint)
        joint = mixed / mixed.sum(-1, keepdim=True) @ joint
    return joint


def chefer(attentions: Sequence[Tensor], number: Tensor) -> Tensor:
    """R of Chefer et al., (place, place)."""
    relevance = torch.eye(attentions[0].shape[-1]).to(attentions[0])
    for attention, slope in zip(attentions, torch.autograd.grad(number, attentions, retain_graph=True), strict=True):
        relevance = relevance + (slope * attention)[0].clamp(min=0).mean(0) @ relevance
    return relevance


def attention_cam(attention: Tensor, number: Tensor) -> Tensor:
    """One layer's attention with heads weighted by their mean slope, (place, place)."""
    (slope,) = torch.autograd.grad(number, attention, retain_graph=True)
    heads = [slope[0, h].mean() * attention[0, h] for h in range(attention.shape[1])]
    return (sum(heads[1:], heads[0]) / len(heads)).clamp(min=0)


def feature_cam(hidden: Tensor, number: Tensor, patches: int) -> Tensor:
    """Selvaraju's map over the patches, which stand last."""
    (slope,) = torch.autograd.grad(number, hidden, retain_graph=True)
    weights = slope[0, -patches:].mean(0)
    return torch.stack([(weights * place).sum().clamp(min=0) for place in hidden[0, -patches:]])


def value_zeroing(layers: Sequence[nn.Module], hidden: Sequence[Tensor], values: str) -> Tensor:
    """The product of the layers' matrices of how far each output turns when one place's value is 0."""
    joint = torch.eye(hidden[0].shape[1]).to(hidden[0])
    for layer, states in zip(layers, hidden, strict=False):
        plain, turned = _states(layer(states)), torch.zeros_like(joint)
        for place in range(len(joint)):

            def zero(module: nn.Module, arguments: Any, output: Tensor, place: int = place) -> Tensor:
                changed = output.clone()
                changed[:, place] = 0
                return changed

            handle = layer.get_submodule(values).register_forward_hook(zero)
            turned[:, place] = 1 - F.cosine_similarity(_states(layer(states)), plain, dim=-1)[0]
            handle.remove()
        joint = turned / turned.sum(-1, keepdim=True) @ joint
    return joint


def _states(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def shifted(pixels: Tensor, down: int, across: int) -> Tensor:
    """An image moved, with its edge repeated."""
    height, width = pixels.shape[-2:]
    wide = F.pad(pixels, (abs(across),) * 2 + (abs(down),) * 2, mode="replicate")
    top, left = abs(down) - down, abs(across) - across
    return wide[..., top : top + height, left : left + width]


def moved_back(amounts: Tensor, down: int, across: int) -> Tensor:
    """What each pixel of the image at rest shows of (height, width) amounts, wherever it was shown."""
    height, width = amounts.shape
    found = torch.zeros_like(amounts)
    for row in range(height):
        for column in range(width):
            source = min(max(row - down, 0), height - 1), min(max(column - across, 0), width - 1)
            found[source] += amounts[row, column]
    return found
