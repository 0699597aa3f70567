"""Hooks that make nodes follow their treatments, and record the relevance that they absorb."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch._C import _functorch
from torch.utils.hooks import RemovableHandle

from apportion.relevance._graph import Node, Places
from apportion.relevance._plan import Plan
from apportion.relevance._treatment import Gradients, Treatment


class Accounts:
    """The relevance that nodes absorbed during one backward pass."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.absorbed: list[tuple[int, str, Tensor]] = []

    def add(self, i: int, line: str, amount: Tensor) -> None:
        self.absorbed.append((i, line, _out_of_the_batch(amount.detach())))

    def entries(self, plan: Plan) -> list[tuple[str, str, Tensor]]:
        nodes, names = plan.graph.nodes, plan.graph.names
        return [(line, f"{self.places.path_of(nodes[i])} {names[i]}".strip(), x) for i, line, x in self.absorbed]


def _out_of_the_batch(value: Tensor) -> Tensor:
    """A value from inside a batched backward pass, with the axis of targets in front."""
    if not _functorch.is_batchedtensor(value):
        return value
    axis = _functorch.maybe_get_bdim(value)
    return _functorch.get_unwrapped(value).movedim(axis, 0)


def attach_all(plan: Plan, accounts: Accounts | None, handles: list[RemovableHandle]) -> None:
    """Hook the nodes that relevance reaches so that their gradients follow their treatments."""
    for i, treatment in enumerate(plan.treatments):
        if treatment is not None and plan.needed[i]:
            _attach(i, plan.graph.nodes[i], treatment, accounts, handles)


def _attach(
    i: int, node: Node, treatment: Treatment, accounts: Accounts | None, handles: list[RemovableHandle]
) -> None:
    shares, derivative, in_place = treatment.shares, treatment.derivative, treatment.in_place
    absorbed = treatment.absorbed if accounts is not None else None
    if shares is None and derivative is None and absorbed is None:
        return

    def hook(arguments: Gradients, results: Gradients) -> Gradients | None:
        if all(g is None for g in results):
            return None
        passed = arguments if derivative is None else derivative(arguments, results)
        if shares is not None:
            passed = tuple([_share(g, share, in_place) for g, share in zip(passed, shares, strict=False)])
        if absorbed is not None:
            assert accounts is not None
            accounts.add(i, treatment.line, absorbed(passed, results))
        return passed

    handles.append(node.register_hook(hook))


def _share(gradient: Tensor | None, share: float | None, in_place: bool) -> Tensor | None:
    if gradient is None or share is None:
        return None
    if share == 1:
        return gradient
    return gradient.mul_(share) if in_place else gradient * share


def attach_constant(
    i: int, plan: Plan, captured: Mapping[int, Tensor], accounts: Accounts, handles: list[RemovableHandle]
) -> None:
    """Hook an affine node whose result contains a constant, which absorbs itself times the gradient.

    Constants of the model and values that only the composite holds constant have separate lines in the ledger.
    """
    constant = captured.get(i)
    if constant is None or not bool((constant != 0).any()):
        return
    line = "held constant" if plan.holds_constant(i) else "constants"

    def hook(results: Gradients) -> None:
        grad = results[0]
        if grad is None:
            return
        wide = torch.promote_types(grad.dtype, torch.float32)
        # A mask of −∞ gets no gradient, and no relevance either.
        accounts.add(i, line, torch.where(grad == 0, 0, constant.to(wide) * grad.to(wide)).sum())

    handles.append(plan.graph.nodes[i].register_prehook(hook))
