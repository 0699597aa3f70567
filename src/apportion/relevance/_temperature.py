"""The derivative of a softmax at a temperature other than that of its values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from apportion.relevance._slopes import saved_axis
from apportion.relevance._treatment import Derivative, Gradients


def tempered_softmax(node: Any, temperature: float) -> Derivative:
    r"""A softmax passes $s^T_i (g_i - \sum_j s^T_j g_j)$ with $s^T = \mathrm{softmax}(x / T)$.

    The factor 1/T of the inner derivative is omitted, as in the authors' code. $s^T$ is computed from the saved result,
    since $\mathrm{softmax}(x / T) = \mathrm{softmax}(\log(s) / T)$.

    Source: Edin et al. 2025, arXiv 2505.17630.
    """

    def derivative(arguments: Gradients, results: Gradients) -> Gradients:
        result = node._saved_result if hasattr(node, "_saved_result") else node.saved_tensors[0]
        axis = saved_axis(node) if hasattr(node, "_saved_dim") else node.dim
        grad, given = results[0], arguments[0]
        assert grad is not None
        assert given is not None
        return (_through((result.log() / temperature).softmax(axis), grad, axis).to(given.dtype), *arguments[1:])

    return derivative


def tempered_attention(node: Any, temperature: float) -> Derivative:
    """A fused kernel, recomputed from its saved queries, keys and values; values keep their gradients.

    It holds the scores of all queries and keys in memory.
    """

    def derivative(arguments: Gradients, results: Gradients) -> Gradients:
        grad = results[0]
        assert grad is not None
        query, key, value = node._saved_query, node._saved_key, node._saved_value
        groups = query.shape[1] // key.shape[1]
        keys, values = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (key, value))
        scale = query.shape[-1] ** -0.5 if node._saved_scale is None else node._saved_scale
        softened = (_scores(node, query @ keys.mT * scale) / temperature).softmax(-1)
        to_scores = _through(softened, grad @ values.mT, -1)
        to_keys = to_scores.mT @ query * scale
        if groups > 1:
            to_keys = to_keys.unflatten(-3, (key.shape[1], groups)).sum(-3)
        passed: list[Tensor | None] = [to_scores @ keys * scale, to_keys, *arguments[2:]]
        if len(arguments) > 3 and (bias := arguments[3]) is not None:
            passed[3] = to_scores.sum_to_size(bias.shape)
        return tuple(None if old is None else new for old, new in zip(arguments, passed, strict=True))

    return derivative


def _through(softened: Tensor, grad: Tensor, axis: int) -> Tensor:
    weighted = softened * grad
    return weighted - softened * weighted.sum(axis, keepdim=True)


def _scores(node: Any, scores: Tensor) -> Tensor:
    """Scores with the kernel's bias and mask."""
    mask = getattr(node, "_saved_attn_mask", None)
    mask = getattr(node, "_saved_attn_bias", None) if mask is None else mask
    if node._saved_is_causal:
        ahead = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(ahead, -torch.inf)
    return scores if mask is None else scores + mask
