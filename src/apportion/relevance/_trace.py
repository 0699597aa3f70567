"""A trace: one recorded forward pass, from which relevance is propagated as often as wanted."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch._C import _functorch
from torch.utils.hooks import RemovableHandle

from apportion._errors import ApportionError, NonFiniteRelevance
from apportion._ledger import Ledger
from apportion.relevance._audit import Audit
from apportion.relevance._capture import Capture
from apportion.relevance._composite import Composite
from apportion.relevance._graph import Graph, Node, Places
from apportion.relevance._plan import ADDED, LIVE, Plan, plan_treatments
from apportion.relevance._recording import Leaf, Recording, record_forward
from apportion.relevance._treatment import Gradients, Treatment

_LINES = {
    "tokens": "tokens",
    "inputs": "inputs",
    "positions": "positions",
    "biases": "biases",
    "constants": "constants",
}


def record(model: nn.Module, inputs: Mapping[str, Any], *, detail: bool = True) -> Trace:
    """Run a model once, as it is, and keep the graph; see `Trace`.

    The model computes exactly what it would compute anyway, and is given back before this returns: parameters'
    `requires_grad`, training mode and hooks as they were, also after an error.

    Args:
        model: Any torch module whose operations autograd sees.
        inputs: Its keyword arguments.
        detail: Whether the names of modules without parts of their own are kept; without, the trace is a little
            faster and names the module around them.

    Raises:
        ApportionError: The model is compiled or has weights on the meta device.
    """
    return Trace(model, inputs, record_forward(model, inputs, detail=detail))


@dataclass(frozen=True, kw_only=True)
class Propagated:
    """What one backward pass under a composite gave.

    Args:
        relevance: By leaf: an embedding's relevance per place (summed over its dimensions), or an input's or a
            parameter's per element; with an axis of targets in front.
        leaves: The leaves, by the same names.
        ledger: The accounts, or None when they were not asked for.
    """

    relevance: Mapping[str, Float[Tensor, "targets *shape"]]
    leaves: Mapping[str, Leaf]
    ledger: Ledger | None


class Trace:
    """One recorded forward pass.

    Args:
        model: The model that ran; used again only where a value has to be captured that autograd does not keep.
        inputs: What it ran on.
        recording: What the pass left.
    """

    def __init__(self, model: nn.Module, inputs: Mapping[str, Any], recording: Recording) -> None:
        self.model, self.inputs, self.recording = model, inputs, recording
        self._graphs: dict[tuple[Node, ...], Graph] = {}

    @property
    def output(self) -> Any:
        """What the model returned."""
        return self.recording.output

    @cached_property
    def leaves(self) -> dict[str, Leaf]:
        """Everything that can receive relevance, by a name of its own."""
        named: dict[str, Leaf] = {}
        for leaf in self.recording.leaves:
            name, again = leaf.name, 2
            while name in named:
                name, again = f"{leaf.name}#{again}", again + 1
            named[name] = leaf
        return named

    @cached_property
    def places(self) -> Places:
        """In which module each node was made."""
        return Places(self.recording.visits)

    def propagate(
        self,
        outputs: Tensor | Sequence[Tensor],
        seeds: Tensor | Sequence[Tensor],
        composite: Composite,
        *,
        ledger: bool = True,
        keep_graph: bool = True,
    ) -> Propagated:
        """Send relevance from the model's outputs back to its leaves.

        Args:
            outputs: Tensors that the model returned.
            seeds: For each output the derivative of the targets by it, with an axis of targets in front; all targets
                go back in one batched pass.
            composite: The rules to follow.
            ledger: Whether to keep accounts.
            keep_graph: Whether relevance will be propagated from this trace again; without, memory is freed.

        Raises:
            UnknownOperation: Relevance reaches an operation that no rule is known for.
            NonFiniteRelevance: A share became NaN or infinite; the message names the first operation.
        """
        outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
        seeds = (seeds,) if isinstance(seeds, Tensor) else tuple(seeds)
        plan, captured = self._resolved_plan(outputs, composite, ledger=ledger)
        if not any(plan.needed):
            root = plan.treatments[plan.graph.roots[0]]
            raise ApportionError(
                f"nothing carries relevance under {composite.name}: the explained output is the result of "
                f"{plan.graph.names[plan.graph.roots[0]]!r}, which is {root.rule if root else 'not live'}. "
                "Explain what goes into it, such as the logits."
            )
        accounts = _Accounts(self.places)
        handles: list[RemovableHandle] = []
        try:
            for i, treatment in enumerate(plan.treatments):
                if treatment is not None and plan.needed[i]:
                    _attach(i, plan.graph.nodes[i], treatment, accounts if ledger else None, handles)
            if ledger:
                for i in plan.constants:
                    _attach_constant(i, plan.graph.nodes[i], captured, accounts, handles)
            gradients = self._backward(outputs, seeds, plan, keep_graph)
        finally:
            for handle in handles:
                handle.remove()
        targets = len(seeds[0])
        relevance = self._relevance(gradients, targets)
        if not all(bool(amount.isfinite().all()) for amount in relevance.values()):
            raise NonFiniteRelevance(self._first_non_finite(outputs, seeds, plan))
        books = self._ledger(outputs, seeds, relevance, accounts, plan) if ledger else None
        return Propagated(relevance=relevance, leaves={name: self.leaves[name] for name in relevance}, ledger=books)

    def audit(self, outputs: Tensor | Sequence[Tensor], composite: Composite) -> Audit:
        """What every node of the graph was taken for under a composite, without propagating anything."""
        outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
        plan, _ = self._resolved_plan(outputs, composite, ledger=False)
        return Audit.of(plan, composite, self.places)

    def _graph(self, outputs: Sequence[Tensor]) -> Graph:
        roots = []
        for output in outputs:
            if output.grad_fn is None:
                raise ApportionError(
                    "the explained output does not depend on any embedding or input of the model "
                    "(it was detached, or computed without gradients), so nothing can be attributed."
                )
            roots.append(output.grad_fn)
        key = tuple(roots)
        if key not in self._graphs:
            self._graphs[key] = Graph.below(roots)
        return self._graphs[key]

    def _resolved_plan(
        self, outputs: Sequence[Tensor], composite: Composite, *, ledger: bool
    ) -> tuple[Plan, Mapping[int, Tensor]]:
        """The plan, and by node the constants that it needs; runs the model again where autograd kept too little."""
        graph = self._graph(outputs)
        leaves = {leaf.variable: ADDED if leaf.added else LIVE for leaf in self.recording.leaves}
        plan = plan_treatments(graph, leaves, composite, self.places)
        constants = plan.constants if ledger else []
        if not plan.unresolved and not constants:
            return plan, {}
        start = self.recording.start
        numbers = {i: graph.nodes[i]._sequence_nr() - start for i in (*constants, *plan.unresolved)}
        dead = [graph.nodes[i]._sequence_nr() - start for i, live in enumerate(plan.live) if not live]
        captures: list[Capture] = []

        def around(first: int) -> Capture:
            captures.append(
                Capture(first, [numbers[i] for i in constants], [numbers[i] for i in plan.unresolved], dead)
            )
            return captures[0]

        record_forward(self.model, self.inputs, detail=False, around=around)
        (capture,) = captures
        operands = {i: capture.operands[numbers[i]] for i in plan.unresolved if numbers[i] in capture.operands}
        if len(operands) < len(plan.unresolved):
            raise ApportionError(
                "the model did not compute the same operations twice, so its activations cannot be read."
            )
        if operands:
            plan = replace(plan_treatments(graph, leaves, composite, self.places, operands), constants=plan.constants)
        return plan, {i: capture.constants[numbers[i]] for i in constants if numbers[i] in capture.constants}

    def _backward(
        self, outputs: Sequence[Tensor], seeds: Sequence[Tensor], plan: Plan, keep_graph: bool
    ) -> dict[str, Tensor]:
        graph = plan.graph
        reached = {
            graph.nodes[i].variable
            for i, needed in enumerate(plan.needed)
            if needed and graph.names[i] == "AccumulateGrad"
        }
        named = {name: leaf for name, leaf in self.leaves.items() if leaf.variable in reached}
        if not named:
            return {}
        edges = [leaf.edge for leaf in named.values()]
        missing: list[int] = []

        def backward(*seed: Tensor) -> tuple[Tensor, ...]:
            try:
                gradients = torch.autograd.grad(outputs, edges, seed, retain_graph=keep_graph, allow_unused=True)
            except RuntimeError as error:
                if "modified by an inplace operation" not in str(error):
                    raise
                raise ApportionError(
                    "the model overwrites values that its own derivative needs, so nothing can be propagated; if it keeps a "
                    "cache or a state, switch that off (use_cache=False)."
                ) from error
            missing[:] = [k for k, gradient in enumerate(gradients) if gradient is None]
            return tuple(gradient for gradient in gradients if gradient is not None)

        if len(seeds[0]) == 1:
            given = tuple(gradient[None] for gradient in backward(*(seed[0] for seed in seeds)))
        else:
            with _quiet_fallback():
                given = torch.func.vmap(backward)(*seeds)
        names = [name for k, name in enumerate(named) if k not in missing]
        return dict(zip(names, given, strict=True))

    def _relevance(self, gradients: Mapping[str, Tensor], targets: int) -> dict[str, Tensor]:
        relevance = {}
        for name, leaf in self.leaves.items():
            wide = torch.promote_types(leaf.value.dtype, torch.float32)
            embedded = leaf.role != "inputs" and leaf.value.ndim > 1
            if name in gradients:
                amount = leaf.value.to(wide) * gradients[name].to(wide)
                relevance[name] = amount.sum(-1) if embedded else amount
            elif leaf.role in ("tokens", "inputs"):
                shape = leaf.value.shape[:-1] if embedded else leaf.value.shape
                relevance[name] = torch.zeros(targets, *shape, dtype=wide, device=leaf.value.device)
        return relevance

    def _ledger(
        self,
        outputs: Sequence[Tensor],
        seeds: Sequence[Tensor],
        relevance: Mapping[str, Tensor],
        accounts: _Accounts,
        plan: Plan,
    ) -> Ledger:
        wide = torch.float64
        total = sum(
            (output.detach().to(wide) * seed.to(wide)).reshape(len(seed), -1).sum(1)
            for output, seed in zip(outputs, seeds, strict=True)
        )
        assert isinstance(total, Tensor)
        total = total.cpu()
        entries = [
            (_LINES[self.leaves[name].role], name, amount.flatten(1).sum(1)) for name, amount in relevance.items()
        ] + accounts.entries(plan)
        # All at once: one transfer from the device, not one an entry.
        amounts = torch.stack([amount.to(wide).expand(len(total)) for _, _, amount in entries]).cpu()
        details: dict[str, dict[str, Tensor]] = {}
        for (line, entry, _), amount in zip(entries, amounts, strict=True):
            named = details.setdefault(line, {})
            named[entry] = named[entry] + amount if entry in named else amount
        lines = {line: sum(named.values(), torch.zeros_like(total)) for line, named in details.items()}
        return Ledger(total=total, lines=lines, details=details)

    def _first_non_finite(self, outputs: Sequence[Tensor], seeds: Sequence[Tensor], plan: Plan) -> str:
        """Send one target back once more, watching every node, to find where a number was lost."""
        for name, parameter in self.model.named_parameters():
            if parameter.is_floating_point() and not bool(parameter.isfinite().all()):
                return f"the parameter {name!r} holds NaN or infinite values; load the model's weights again."
        if not all(bool(output.isfinite().all()) for output in outputs):
            return self._first_non_finite_output()
        found: list[int] = []
        handles: list[RemovableHandle] = []

        def watch(i: int) -> Callable[[Gradients, Gradients], None]:
            def hook(arguments: Gradients, results: Gradients) -> None:
                if not found and any(g is not None and not g.isfinite().all() for g in arguments):
                    found.append(i)

            return hook

        try:
            for i, node in enumerate(plan.graph.nodes):
                if plan.needed[i] and plan.graph.names[i] != "AccumulateGrad":
                    if plan.treatments[i] is not None:
                        _attach(i, node, plan.treatments[i], None, handles)
                    handles.append(node.register_hook(watch(i)))
            with contextlib.suppress(RuntimeError):
                for target in range(len(seeds[0])):
                    self._backward(outputs, [seed[target : target + 1] for seed in seeds], plan, True)
        finally:
            for handle in handles:
                handle.remove()
        if not found:
            return "a share became NaN or infinite, at a leaf; try the model in float32."
        node = plan.graph.nodes[found[0]]
        return (
            f"a share became NaN or infinite, first at {plan.graph.names[found[0]]!r} in "
            f"{self.places.path_of(node) or 'the model itself'}; try the model in float32."
        )

    def _first_non_finite_output(self) -> str:
        """Run the model once more to find the first module that returns a number that is none."""
        found: list[str] = []
        handles = []

        def watch(path: str) -> Callable[..., None]:
            def hook(module: nn.Module, arguments: Any, output: Any) -> None:
                tensors = output if isinstance(output, tuple | list) else (output,)
                if not found and any(
                    isinstance(t, Tensor) and t.is_floating_point() and not t.isfinite().all() for t in tensors
                ):
                    found.append(path)

            return hook

        try:
            for path, module in self.model.named_modules():
                handles.append(module.register_forward_hook(watch(path)))
            record_forward(self.model, self.inputs)
        finally:
            for handle in handles:
                handle.remove()
        where = f", first in {found[0] or 'the model itself'}" if found else ""
        return f"the model's own output is NaN or infinite{where}; check its inputs, or try it in float32."


class _Accounts:
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


@contextlib.contextmanager
def _quiet_fallback() -> Iterator[None]:
    """Without the warning that a kernel is run target by target where torch cannot batch it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield


def _out_of_the_batch(value: Tensor) -> Tensor:
    """A value computed inside a batched backward pass, with the axis of targets in front."""
    if not _functorch.is_batchedtensor(value):
        return value
    axis = _functorch.maybe_get_bdim(value)
    return _functorch.get_unwrapped(value).movedim(axis, 0)


def _attach(
    i: int, node: Node, treatment: Treatment, accounts: _Accounts | None, handles: list[RemovableHandle]
) -> None:
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


def _attach_constant(
    i: int, node: Node, captured: Mapping[int, Tensor], accounts: _Accounts, handles: list[RemovableHandle]
) -> None:
    """Hook an affine node whose result holds a constant: the constant's share is itself times the gradient."""
    constant = captured.get(i)
    if constant is None or not bool((constant != 0).any()):
        return

    def hook(results: Gradients) -> None:
        grad = results[0]
        if grad is None:
            return
        wide = torch.promote_types(grad.dtype, torch.float32)
        # A mask of −∞ gets no gradient, and no relevance either.
        accounts.add(i, "constants", torch.where(grad == 0, 0, constant.to(wide) * grad.to(wide)).sum())

    handles.append(node.register_prehook(hook))
