"""Layers: how well relevance inside the model follows what leaving out each token's representation there does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.evaluation._agreement_with_removal import correlations
from apportion.evaluation._case import Case
from apportion.evaluation._measure import Found, Measure
from apportion.evaluation._registry import register_measure
from apportion.methods import Method, Propagation
from apportion.methods.forward import reading_through
from apportion.relevance import Composite, Trace, is_layer, record
from apportion.results import Attribution
from apportion.results.evaluation import Column
from apportion.task import TOKENS_AT_ONCE, AttributionTask

Absence = Literal["zero", "mean"]
"""What stands in the place of a removed residual: zeros, or the mean over all places of the prompt."""


@register_measure("layer-agreement")
@final
@dataclass(frozen=True, kw_only=True)
class LayerAgreement(Measure):
    r"""Correlation, layer by layer, of the relevance of each token's residual with what removing that residual does.

    The relevance of a token at a layer is that of the residual stream where the layer reads it, summed over its
    dimensions; all layers' come from one backward pass. Removal puts zeros, or the mean, in the place of what the layer
    reads for this token, and of nothing before. The tokens are those that can be absent from the prompt. The curves
    have a number for each chosen layer, from the first to the last.

    It is NaN for a method that propagates no relevance through the model, such as a perturbation method, and for a
    model that is not one stack of layers, each run once and reading one vector a token. Removing costs a forward pass
    for each layer and token, from that layer on, once for all methods.

    Args:
        layers: How many layers, spread evenly from the first to the last; or their numbers, from 0.
        absence: `"zero"` or `"mean"`.

    Raises:
        ApportionError: An option does not fit, or scipy is missing.

    Source:
        You et al. 2025, arXiv 2510.18810, compare LRP with leave-one-out, which here is done at each layer.
    """

    layers: int | Sequence[int] = 6
    absence: Absence = "zero"

    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            name="layer_spearman_mean", better="higher", meaning="mean over layers of the Spearman correlation, -1 to 1"
        ),
        Column(
            name="layer_pearson_mean", better="higher", meaning="mean over layers of the Pearson correlation, -1 to 1"
        ),
        Column(
            name="layer_spearman",
            better="",
            meaning="Spearman correlation with leave-one-out, by layer from first to last",
            curve=True,
        ),
        Column(
            name="layer_pearson",
            better="",
            meaning="Pearson correlation with leave-one-out, by layer from first to last",
            curve=True,
        ),
    )

    def __post_init__(self) -> None:
        if isinstance(self.layers, int):
            fits = self.layers >= 1
        else:
            numbers = list(self.layers) if isinstance(self.layers, Sequence) else []
            fits = bool(numbers) and all(isinstance(number, int) and number >= 0 for number in numbers)
        if not fits:
            raise ApportionError(f"layers={self.layers!r} is not possible; give how many, or numbers of layers from 0.")
        if self.absence not in ("zero", "mean"):
            raise ApportionError(f"absence={self.absence!r} is not known; use 'zero' or 'mean'.")

    def of(self, case: Case, attribution: Attribution, method: Method) -> Found:
        """Both correlations at each layer, and their means over the layers where they are defined."""
        stack = case.shared("stack", partial(stack_of, case.task))
        if stack is None or not isinstance(method, Propagation):
            return {"layer_spearman_mean": math.nan, "layer_pearson_mean": math.nan}
        places = [place for group in case.players.groups for place in group]
        relevance = stack.relevance(method.rules(case.task.head.model))
        found = []
        for layer in self._chosen(len(stack.paths)):
            removed = case.shared(
                f"removed from layer {layer} by {self.absence}",
                partial(stack.drops, layer, places, absence=self.absence),
            )
            found.append(correlations(relevance[layer, places], removed))
        curves = {name: [at_layer[name] for at_layer in found] for name in ("spearman", "pearson")}
        return {
            **{f"layer_{name}_mean": _mean(curve) for name, curve in curves.items()},
            **{f"layer_{name}": curve for name, curve in curves.items()},
        }

    def _chosen(self, count: int) -> list[int]:
        if isinstance(self.layers, int):
            steps = torch.linspace(0, count - 1, min(self.layers, count), dtype=torch.float64)
            return [round(step) for step in steps.tolist()]
        if max(self.layers) >= count:
            raise ApportionError(
                f"layers={tuple(self.layers)} is not possible: the model has {count} layers, 0 to {count - 1}."
            )
        return sorted(set(self.layers))


def _mean(curve: Sequence[float]) -> float:
    defined = [value for value in curve if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


class Stack:
    """The residual stream of one example, where each layer of a model reads it.

    Args:
        task: Of one example and target; its model has one stack of layers.
        paths: Of the layers, in the order in which they run.
    """

    def __init__(self, task: AttributionTask, paths: Sequence[str]) -> None:
        self.task, self.paths = task, list(paths)
        self._recorded = _Recorded(task, self.paths)
        _ = self._recorded.trace
        #: What each layer reads, (place, d).
        self.values: Sequence[Tensor] = self._recorded.values

    def relevance(self, composite: Composite) -> Float[Tensor, "layer place"]:
        """The relevance of each place's residual at each layer under a composite; one backward pass."""
        trace, read, gradients = self._recorded.trace, self._recorded.target_values, self._recorded.gradients
        gradients.clear()
        trace.propagate(read.outputs, read.seeds, composite, ledger=False)
        rows = []
        for layer, value in enumerate(self.values):
            gradient = gradients.get(layer)  # none arrives where no rule lets relevance pass
            rows.append(value.new_zeros(value.shape[0]) if gradient is None else (value * gradient).sum(-1))
        return torch.stack(rows)

    def drops(self, layer: int, places: Sequence[int], *, absence: Absence) -> Float[Tensor, " places"]:
        """How much the target falls when a layer reads nothing at one place, for each of these places."""
        value, task = self.values[layer], self.task
        instead = torch.zeros_like(value[0]) if absence == "zero" else value.mean(0)
        at_once = max(1, TOKENS_AT_ONCE // len(value)) if task.targets[0].names_outputs else 1
        found = []
        for first in range(0, len(places), at_once):
            some = list(places[first : first + at_once])

            def without(hidden: Tensor, some: list[int] = some) -> Tensor:
                hidden[list(range(len(some))), some] = instead.to(hidden)
                return hidden

            found.append(self._values(layer, len(some), without, early=not self._spreads))
        return task.target_values.values[0][0] - torch.cat(found)

    def _values(
        self, layer: int, copies: int, changed: Callable[[Tensor], Tensor], *, early: bool
    ) -> Float[Tensor, " copies"]:
        """The target for copies of the example that differ from a layer on; before it, one is read unless `early`."""

        def change(_: int, hidden: Tensor) -> Tensor:
            return changed(hidden.expand(copies, -1, -1).clone())

        spread = _Copies(self.task, copies, early=early)
        with reading_through(self.task.head.model, [self.paths[layer]], change):
            return spread._values_without_graph()[:, 0]

    @cached_property
    def _spreads(self) -> bool:
        """Whether the model still computes the same when one example becomes several where the first layer reads it."""
        known = self.task.target_values.values[0][0]
        copies = 2 if self.task.targets[0].names_outputs else 1
        try:
            found = self._values(0, copies, lambda hidden: hidden, early=False)
        except RuntimeError:  # it holds on to the batch's size
            return False
        return bool(((found - known).abs() <= torch.finfo(torch.float32).eps ** 0.5 * (1 + abs(known))).all())


class _Copies(AttributionTask):
    """Copies of one example, which the model gets as several, or as one that becomes several inside."""

    def __init__(self, task: AttributionTask, copies: int, *, early: bool) -> None:
        super().__init__(task.head, task.prompts * copies, task.resolved[0], rows=list(task.rows) * copies)
        if not early:
            self.inputs = task.inputs


class _Recorded(AttributionTask):
    """One example, recorded with what its layers read and the gradients that arrive there.

    Args:
        task: Of one example and target.
        paths: Of the layers.
    """

    def __init__(self, task: AttributionTask, paths: Sequence[str]) -> None:
        super().__init__(task.head, task.prompts, task.resolved[0], detail=task.detail, rows=task.rows)
        self.passes, self.paths = task.passes, paths
        self.values: list[Tensor] = []
        self.gradients: dict[int, Tensor] = {}

    @cached_property
    def trace(self) -> Trace:
        """The recorded forward pass."""
        self.passes.forward += 1
        # The hooks live as long as the graph, so they must not know whoever keeps the graph.
        values, gradients = self.values, self.gradients

        def watch(layer: int, hidden: Tensor) -> Tensor:
            values.append(hidden.detach()[0].double().cpu())
            if hidden.requires_grad:
                hidden.register_hook(lambda gradient: _note(gradients, layer, gradient))
            return hidden

        with reading_through(self.head.model, self.paths, watch):
            return record(self.head.model, self.inputs, detail=self.detail)


def _note(gradients: dict[int, Tensor], layer: int, gradient: Tensor) -> None:
    gradients[layer] = gradient.detach()[0].double().cpu()


def stack_of(task: AttributionTask) -> Stack | None:
    """The layers of a model that is one stack of them; None where it is not.

    Args:
        task: Of one example and target.
    """
    called = [visit.path for visit in task.trace.recording.visits if is_layer(visit.path)]
    by_list: dict[str, list[str]] = {}
    for path in called:
        by_list.setdefault(path.rpartition(".")[0], []).append(path)
    lengths = sorted((len(paths) for paths in by_list.values()), reverse=True)
    prompt = task.prompts[0]
    if len(prompt.parts) != 1 or not lengths or (len(lengths) > 1 and lengths[0] == lengths[1]):
        return None
    paths = next(paths for paths in by_list.values() if len(paths) == lengths[0])
    if len(set(paths)) < len(paths):
        return None
    stack = Stack(task, paths)
    shapes = [tuple(value.shape[:-1]) for value in stack.values]
    return stack if shapes == [(prompt.length,)] * len(paths) else None
