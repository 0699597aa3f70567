"""Diagnosis: where a value first became NaN or infinite."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from apportion.core import temporary_hooks
from apportion.relevance._graph import Places
from apportion.relevance._hooks import attach_all
from apportion.relevance._plan import Plan
from apportion.relevance._treatment import Gradients


def in_weights(model: nn.Module) -> str | None:
    """A sentence that names a non-finite parameter, or None."""
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not bool(parameter.isfinite().all()):
            return f"the parameter {name!r} holds NaN or infinite values; load the model's weights again."
    return None


def on_the_way_forward(model: nn.Module, run: Callable[[], Any]) -> str:
    """A sentence that names the first module to return a non-finite value when the model runs again."""
    found: list[str] = []

    def watch(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            tensors = output if isinstance(output, tuple | list) else (output,)
            floats = [t for t in tensors if isinstance(t, Tensor) and t.is_floating_point()]
            if not found and any(not t.isfinite().all() for t in floats):
                found.append(path)

        return hook

    with temporary_hooks() as handles:
        handles += [module.register_forward_hook(watch(path)) for path, module in model.named_modules()]
        run()
    where = f", first in {found[0] or 'the model itself'}" if found else ""
    return f"the model's own output is NaN or infinite{where}; check its inputs, or try it in float32."


def on_the_way_back(plan: Plan, places: Places, run: Callable[[], Any]) -> str:
    """A sentence that names the first operation to pass a non-finite gradient on in another backward pass."""
    found: list[int] = []

    def watch(i: int) -> Callable[[Gradients, Gradients], None]:
        def hook(arguments: Gradients, results: Gradients) -> None:
            if not found and any(g is not None and not g.isfinite().all() for g in arguments):
                found.append(i)

        return hook

    with temporary_hooks() as handles:
        attach_all(plan, None, handles)
        for i, node in enumerate(plan.graph.nodes):
            if plan.needed[i] and plan.graph.names[i] != "AccumulateGrad":
                handles.append(node.register_hook(watch(i)))
        with contextlib.suppress(RuntimeError):  # the graph may have been freed
            run()
    if not found:
        return "a share became NaN or infinite; try the model in float32."
    place = places.path_of(plan.graph.nodes[found[0]]) or "the model itself"
    return (
        f"a share became NaN or infinite, first at {plan.graph.names[found[0]]!r} in {place}; try the model in float32."
    )
