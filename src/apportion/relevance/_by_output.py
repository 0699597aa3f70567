"""Relevance by output: the relevance of a few features for every dimension of an output, one pass per feature."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import temporary_hooks
from apportion.relevance._composite import Composite
from apportion.relevance._hooks import attach_all
from apportion.relevance._trace import TARGETS_AT_ONCE, Propagated, Trace, _quiet_fallback


def relevance_by_output(
    trace: Trace,
    output: Float[Tensor, "1 d_model"],
    composite: Composite,
    shares: Callable[[Propagated], Float[Tensor, "targets feature"]],
) -> Float[Tensor, "feature d_model"]:
    r"""The relevance of each feature for a seed of 1 at each dimension of the output.

    Under fixed rules relevance is linear in its seed: $R_i(s) = \sum_k s_k C_{ik}$. With the graph of the backward pass
    kept, the derivative of $R_i$ by $s$ is a row of C: one pass per feature instead of one per dimension.

    Args:
        trace: The recorded forward pass.
        output: One of its outputs.
        composite: The rules.
        shares: Sums relevance over the features; differentiable.

    Raises:
        RuntimeError: An operation of the model has no second derivative, such as a fused attention kernel.
    """
    plan, _ = trace._resolved_plan((output,), composite, ledger=False)
    seed = torch.zeros_like(output).requires_grad_(True)
    named = {name: leaf for name, leaf in trace.leaves.items() if leaf.role != "biases"}
    with temporary_hooks() as handles:
        attach_all(plan, None, handles)
        edges = [leaf.edge for leaf in named.values()]
        found = torch.autograd.grad(output, edges, seed, create_graph=True, allow_unused=True)
    gradients = {name: g[None] for name, g in zip(named, found, strict=True) if g is not None}
    relevance = trace._relevance(gradients, 1)
    leaves = {name: trace.leaves[name] for name in relevance}
    received = shares(Propagated(relevance=relevance, leaves=leaves, ledger=None))[0]
    rows = []
    for some in torch.eye(len(received), dtype=received.dtype, device=received.device).split(TARGETS_AT_ONCE):
        with _quiet_fallback():
            (row,) = torch.autograd.grad(received, seed, some, retain_graph=True, is_grads_batched=True)
        rows.append(row[:, 0])
    return torch.cat(rows).detach()
