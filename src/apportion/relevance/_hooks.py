"""Hooks that make a node follow its treatment, and the accounts of what it absorbs."""

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
    """What nodes absorbed during one backward pass."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.absorbed: list[tuple[int, str, Tensor]] = []

    def add(self, i: int, line: str, amount: Tensor) -> None:
        self.absorbed.append((i, line, _out_of_the_batch(amount.detach())))

    def entries(self, plan: Plan) -> list[tuple[str, str, Tensor]]:
        found = []
        for i, line, amount in self.absorbed:
            place = self.places.path_of(plan.graph.nodes[i])
            found.append((line, f"{place} {plan.graph.names[i]}".strip(), amount))
        return found


def _out_of_the_batch(value: Tensor) -> Tensor:
    """A value computed inside a batched backward pass, with the axis of targets in front."""
    if not _functorch.is_batchedtensor(value):
        return value
    axis = _functorch.maybe_get_bdim(value)
    return _functorch.get_unwrapped(value).movedim(axis, 0)


def attach(i: int, node: Node, treatment: Treatment, accounts: Accounts | None, handles: list[RemovableHandle]) -> None:
    """Hook a node so that its gradients follow the treatment."""
    shares, derivative, in_place = treatment.shares, treatment.derivative, treatment.in_place
    absorbed = treatment.absorbed if accounts is not None else None
    if shares is None and derivative is None and absorbed is None:
        return

    def hook(arguments: Gradients, results: Gradients) -> Gradients | None:
        if all(g is None for g in results):
            return None
        passed = arguments if derivative is None else derivative(arguments, results)
        if shares is not None:
            passed = tuple(
                [
                    g
                    if g is None or share == 1
                    else None
                    if share is None
                    else g.mul_(share)
                    if in_place
                    else g * share
                    for g, share in zip(passed, shares, strict=False)
                ]
            )
        if absorbed is not None:
            assert accounts is not None
            accounts.add(i, treatment.line, absorbed(passed, results))
        return passed

    handles.append(node.register_hook(hook))


def attach_constant(
    i: int, plan: Plan, captured: Mapping[int, Tensor], accounts: Accounts, handles: list[RemovableHandle]
) -> None:
    """Hook an affine node whose result holds a constant: the constant's share is itself times the gradient.

    What the model adds is one of its constants; what depends on the inputs, but passes no relevance under the
    composite, is held constant by us, and has a line of its own.
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
