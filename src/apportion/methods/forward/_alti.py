"""ALTI: the proximity of each layer's output to the contribution of one token, rolled out over the layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import progress
from apportion.methods._method import OneByOne, Shares
from apportion.methods._registry import forward_method
from apportion.methods.forward._decomposed import decomposed, rows_read
from apportion.models.anatomy import Layer
from apportion.task import AttributionTask

#: How many numbers the vectors of a chunk of sources may have: they should fit a processor's cache.
NUMBERS_AT_ONCE = 2**20


@forward_method("alti", cost="2 forward, and n² vectors a layer", source="Ferrando et al. 2022, arXiv 2203.04212")
@dataclass(frozen=True, kw_only=True)
class ALTI(OneByOne):
    r"""Aggregation of layer-wise token-to-token interactions.

    With $T_t(x_s)$ the contribution of position s to the residual stream $y_t$ after the attention,
    $C_{ts} \propto \max(0, \|y_t\|_1 - \|y_t - T_t(x_s)\|_1)$, rows scaled to sum 1; the scores are the predicting
    position's row of $C^L \cdots C^1$, or the mean of the rows that a target reads. They sum to 1 and rank tokens, but
    do not sum to the target. MLPs are ignored.

    Source:
        Ferrando et al. 2022, eqs. 9-14, arXiv 2203.04212; for pre-LN as in Ferrando et al. 2023, arXiv 2305.12535.
    """

    def alone(self, task: AttributionTask) -> Shares:
        """Roll out the contributions."""
        layers = decomposed(task).layers
        rows = rows_read(task)
        for layer in progress(reversed(layers), "following tokens", show=task.progress, total=len(layers)):
            rows = rows @ contributions(layer, layer.weights()).double().cpu()
        return Shares(scores=[rows])


def contributions(layer: Layer, weights: Float[Tensor, "head n n"]) -> Float[Tensor, "n n"]:
    r"""$C_{ts}$ of a layer with its `weights()`: rows sum to 1."""
    # Short formats would lose the small differences of large norms.
    wide = torch.promote_types(layer.middle.dtype, torch.float32)
    weights, own, stream = weights.to(wide), layer.own().to(wide), layer.middle.to(wide)
    n, d = stream.shape
    size = stream.abs().sum(-1)
    nearness = torch.zeros_like(weights[0])
    looked_at = (weights != 0).any(0)
    at_once = max(1, NUMBERS_AT_ONCE // (n * d))
    for start in range(0, n, at_once):
        end = min(start + at_once, n)
        # Rows outside these do not attend to the sources and get 0; with a causal mask that is half of them.
        rows = looked_at[:, start:end].any(1).nonzero()
        first, last = (min(start, int(rows.min())), max(end, int(rows.max()) + 1)) if len(rows) else (start, end)
        brought = weights[:, first:last, start:end].permute(2, 1, 0)
        vectors = layer.messages(slice(start, end)).transpose(0, 1).to(wide)
        left = torch.baddbmm(stream[first:last].expand(end - start, -1, -1), brought, vectors, alpha=-1)
        sources = torch.arange(end - start)
        left[sources, sources + start - first] -= own[start:end]
        distance = torch.linalg.vector_norm(left, 1, dim=-1).T
        nearness[first:last, start:end] = (size[first:last, None] - distance).clamp(min=0)
    itself = torch.eye(n, dtype=torch.bool, device=stream.device)
    # Rounding is not proximity: neither to unattended sources, nor in a row without any, which becomes the identity.
    nearness = nearness.where(looked_at | itself, 0)
    total = nearness.sum(-1, keepdim=True)
    near = total > torch.finfo(stream.dtype).eps * d * size[:, None]
    return torch.where(near, nearness / total.where(near, 1), itself.to(nearness))
