"""GlobEnc: the norm of the vector from each token to each other through a layer's attention and norms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.methods._method import OneByOne, Shares
from apportion.methods._registry import forward_method
from apportion.methods.forward._captured_attention import CapturedAttention
from apportion.models.anatomy import Layer, anatomy
from apportion.task import AttributionTask


@forward_method("globenc", cost="3 forward, 2 backward", source="Modarressi et al. 2022, arXiv 2205.03286")
@dataclass(frozen=True, kw_only=True)
class GlobEnc(OneByOne):
    r"""Norms of each token's contributions to each other in a layer, with both residual connections and norms.

    $T_t(x_s) = \sum_h A_h[t, s] f_h(x_s) + \delta_{ts} x_t$ passes both norms after it, with their statistics
    held fixed and without their biases; the MLP's output only affects the second norm's statistic. Rows of
    $\lVert T_t(x_s) \rVert_2$ are scaled to sum 1; the scores are the predicting position's row of the layers'
    product, or the mean of rows if a target reads several.

    Source:
        Modarressi et al. 2022, arXiv 2205.03286 (N_ENC with rollout), for post-LN encoders. If a model has no norm
        after its residual sums (pre-LN, as in GPT-2 and Llama), the vectors are measured in the residual stream.
    """

    def alone(self, task: AttributionTask) -> Shares:
        """Roll out the norms."""
        seen = CapturedAttention(task)
        seen.self_attentions(self.name)
        rows = torch.stack(seen.reading)
        layers = anatomy(task.head.model, task.inputs).layers
        task.passes.forward += 1
        for layer in reversed(layers):
            norms = norms_of_messages(layer)
            rows = rows @ (norms / norms.sum(-1, keepdim=True)).cpu()
        return Shares(scores=[rows])


def norms_of_messages(layer: Layer) -> Float[Tensor, "n n"]:
    r"""$\lVert T_t(x_s) \rVert_2$ behind the last norm of a layer, by receiver t and sender s.

    By the inner products of the heads' messages, $\lVert \sum_h a_h m_h \rVert^2 = \sum_{hk} a_h a_k\, m_h \cdot m_k$,
    without n × n × d numbers in memory.
    """
    messages, own, weights = layer.messages().double(), layer.own().double(), layer.weights().double()
    if layer.output_norm is not None:
        messages, own = layer.output_norm.mapped(messages), layer.output_norm.mapped(own)
    products = torch.einsum("hsd,ksd->shk", messages, messages)
    squares = torch.einsum("hts,shk,kts->ts", weights, products, weights)
    norms = squares.clamp(min=0).sqrt()
    to_itself = torch.einsum("htt,htd->td", weights, messages) + own
    norms.diagonal().copy_(to_itself.norm(dim=-1))
    return norms if layer.output_norm is None else norms * layer.output_norm.statistic[:, None]
