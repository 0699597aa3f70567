"""Relevance by output: what every dimension of an output gives to a few features, in as many passes as features."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.relevance._composite import Composite
from apportion.relevance._hooks import attach
from apportion.relevance._trace import TARGETS_AT_ONCE, Propagated, Trace, _quiet_fallback


def relevance_by_output(
    trace: Trace,
    output: Float[Tensor, "1 d_model"],
    composite: Composite,
    shares: Callable[[Propagated], Float[Tensor, "targets feature"]],
) -> Float[Tensor, "feature d_model"]:
    r"""How much relevance each feature gets of a unit of relevance's seed at each dimension of the output.

    Under fixed rules relevance is linear in what it starts from: $R_i(s) = \sum_k s_k C_{ik}$. Sent back once with the
    graph of the backward pass itself kept, a derivative of $R_i$ by $s$ is a row of C: one pass a feature instead of
    one a dimension.

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
    handles: list[torch.utils.hooks.RemovableHandle] = []
    named = {name: leaf for name, leaf in trace.leaves.items() if leaf.role != "biases"}
    try:
        for i, treatment in enumerate(plan.treatments):
            if treatment is not None and plan.needed[i]:
                attach(i, plan.graph.nodes[i], treatment, None, handles)
        edges = [leaf.edge for leaf in named.values()]
        found = torch.autograd.grad(output, edges, seed, create_graph=True, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
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
