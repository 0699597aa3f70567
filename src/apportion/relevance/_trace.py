"""A trace: one recorded forward pass, from which relevance can be propagated any number of times."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from apportion.core import ApportionError, Ledger, NonFiniteRelevance, RuleNotApplied, temporary_hooks
from apportion.relevance._audit import Audit
from apportion.relevance._capture import Capture
from apportion.relevance._composite import GRADIENT, Composite
from apportion.relevance._diagnosis import in_weights, on_the_way_back, on_the_way_forward
from apportion.relevance._gamma import Operands
from apportion.relevance._graph import Graph, Node, Places
from apportion.relevance._hooks import Accounts, attach_all, attach_constant
from apportion.relevance._leaf import Leaf
from apportion.relevance._plan import Plan, plan_treatments
from apportion.relevance._recording import Embedded, Recording, Then, record_forward
from apportion.relevance._site import Site
from apportion.relevance._structure import ADDED, LIVE
from apportion.relevance._summands import SUMS, Summands

#: The most targets in one batched backward pass, so that memory does not grow with their number.
TARGETS_AT_ONCE = 16


def record(
    model: nn.Module,
    inputs: Mapping[str, Any],
    *,
    detail: bool = True,
    embedded: Embedded | None = None,
    rotary: bool = False,
    site: str | None = None,
    then: Then | None = None,
    visual: bool = False,
    summands: bool = False,
) -> Trace:
    """Run a model once, unchanged, and keep the graph; see `Trace`.

    The model is restored before this returns, also after an error: parameters' `requires_grad`, training mode, hooks.

    Args:
        model: Any torch module whose operations autograd sees.
        inputs: Its keyword arguments.
        detail: Whether the names of all modules are kept; without, the trace is a little faster and knows only layers.
        embedded: Replaces the embeddings of tokens: from the module's path, the name of the input that it looked up and
            its output, to a tensor of the same shape.
        rotary: Whether the cosines and sines of rotary embeddings can receive relevance, as positions.
        site: Path of a module, or a pattern that matches one, whose output's gradient is kept.
        then: Computes the trace's output from the model's output; rules apply to it as to the model.
        visual: Whether relevance ends at visual tokens, the vectors that a language part reads of images.
        summands: Whether the summands of sums are kept, which a composite with `residual="gamma"` needs; without, they
            come from a second forward pass.

    Raises:
        ApportionError: The model is compiled or has weights on the meta device.
    """
    kept = Summands() if summands else None
    recording = record_forward(
        model,
        inputs,
        detail=detail,
        around=None if kept is None else lambda _: kept,
        embedded=embedded,
        rotary=rotary,
        site=site,
        then=then,
        visual=visual,
    )
    return Trace(model, inputs, recording, embedded, kept)


@dataclass(frozen=True, kw_only=True)
class Propagated:
    """The result of one backward pass under a composite.

    Args:
        relevance: By leaf: an embedding's relevance per place (summed over its dimensions), or an input's or a
            parameter's per element; with an axis of targets in front.
        leaves: The leaves, by the same names.
        ledger: The ledger, or None if it was not requested.
        gradients: By leaf, the modified gradient (relevance is the leaf's value times this), with an axis of targets in
            front; and by the path of the trace's site, the gradient there.
    """

    relevance: Mapping[str, Float[Tensor, "targets ..."]]
    leaves: Mapping[str, Leaf]
    ledger: Ledger | None
    gradients: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def joined(cls, pieces: Sequence[Propagated]) -> Propagated:
        """The results of several passes over one trace, with the targets of all."""
        ledgers = [piece.ledger for piece in pieces if piece.ledger is not None]
        return cls(
            relevance=_along_targets([piece.relevance for piece in pieces]),
            leaves=pieces[0].leaves,
            ledger=Ledger.joined(ledgers) if ledgers else None,
            gradients=_along_targets([piece.gradients for piece in pieces]),
        )


def _along_targets(pieces: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}


class Trace:
    """One recorded forward pass.

    Args:
        model: The model; it runs again only to capture values that autograd does not keep.
        inputs: Its keyword arguments.
        recording: The recording of the pass.
        embedded: Replaces the embeddings of tokens, as in `record`.
        summands: The summands of sums, if they were kept.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        recording: Recording,
        embedded: Embedded | None = None,
        summands: Summands | None = None,
    ) -> None:
        self.model = model
        self.inputs = inputs
        self.recording = recording
        self.embedded = embedded
        self.summands = summands
        #: How often the model ran again for values that autograd does not keep.
        self.repeated: int = 0
        self._graphs: dict[tuple[Node, ...], Graph] = {}

    @property
    def output(self) -> Any:
        """What the model returned."""
        return self.recording.output

    @cached_property
    def leaves(self) -> dict[str, Leaf]:
        """All leaves, by unique names."""
        named: dict[str, Leaf] = {}
        for leaf in self.recording.leaves:
            name, again = leaf.name, 2
            while name in named:
                name, again = f"{leaf.name}#{again}", again + 1
            named[name] = leaf
        return named

    @cached_property
    def places(self) -> Places:
        """The module of each node."""
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
        """Propagate relevance from the model's outputs back to its leaves.

        Args:
            outputs: Tensors that the model returned.
            seeds: For each output the derivative of the targets by it, with an axis of targets in front; all targets
                go back in one batched pass.
            composite: The rules to follow.
            ledger: Whether to keep a ledger.
            keep_graph: Whether relevance will be propagated from this trace again; without, memory is freed.

        Raises:
            UnknownOperation: Relevance reaches an operation without a known rule.
            RuleNotApplied: A rule of the composite applies nowhere.
            NonFiniteRelevance: A share became NaN or infinite; the message names the first operation.
        """
        outputs, seeds = _tuple(outputs), _tuple(seeds)
        if len(seeds[0]) > TARGETS_AT_ONCE:
            parts = ((some, keep_graph or more) for some, more in _some_at_once(seeds))
            return Propagated.joined(
                [self.propagate(outputs, some, composite, ledger=ledger, keep_graph=keep) for some, keep in parts]
            )
        plan, captured = self._resolved_plan(outputs, composite, ledger=ledger)
        if not any(plan.needed):
            root, name = plan.treatments[plan.graph.roots[0]], plan.graph.names[plan.graph.roots[0]]
            raise ApportionError(
                f"nothing carries relevance under {composite.name}: the explained output is the result of {name!r}, "
                f"which is {root.rule if root else 'not live'}. Explain what goes into it, such as the logits."
            )
        if plan.missing:
            raise RuleNotApplied(f"{'; '.join(plan.missing)}; attnlrp or input-x-gradient fit any model.")
        accounts = Accounts(self.places)
        with temporary_hooks() as handles:
            attach_all(plan, accounts if ledger else None, handles)
            for i in plan.constants if ledger else ():
                attach_constant(i, plan, captured, accounts, handles)
            gradients = self._backward(outputs, seeds, plan, keep_graph)
        relevance = self._relevance(gradients, len(seeds[0]))
        if not all(bool(amount.isfinite().all()) for amount in relevance.values()):
            raise NonFiniteRelevance(self._where_lost(outputs, seeds, plan))
        books = self._ledger(outputs, seeds, relevance, accounts, plan) if ledger else None
        leaves = {name: self.leaves[name] for name in relevance}
        return Propagated(relevance=relevance, leaves=leaves, ledger=books, gradients=gradients)

    def gradients(
        self, outputs: Tensor | Sequence[Tensor], seeds: Tensor | Sequence[Tensor], *, keep_graph: bool = True
    ) -> dict[str, Float[Tensor, "targets ..."]]:
        """The plain derivative of the targets by every embedding of tokens and every input.

        Args:
            outputs, seeds, keep_graph: As in `propagate`.

        Returns:
            By leaf, in the shape of its value with an axis of targets in front; 0 for leaves without a derivative.

        Raises:
            NonFiniteRelevance: A derivative is NaN or infinite; the message names the first operation.
        """
        outputs, seeds = _tuple(outputs), _tuple(seeds)
        _roots(outputs)
        if len(seeds[0]) > TARGETS_AT_ONCE:
            parts = ((some, keep_graph or more) for some, more in _some_at_once(seeds))
            return _along_targets([self.gradients(outputs, some, keep_graph=keep) for some, keep in parts])
        tokens = {name: leaf for name, leaf in self.leaves.items() if leaf.role in ("tokens", "inputs")}
        found = self._gradients_of(tokens, outputs, seeds, keep_graph)
        if not all(bool(gradient.isfinite().all()) for gradient in found.values()):
            plan, _ = self._resolved_plan(outputs, GRADIENT, ledger=False)
            raise NonFiniteRelevance(self._where_lost(outputs, seeds, plan))
        for name, leaf in tokens.items():
            if name not in found:
                found[name] = leaf.value.new_zeros(len(seeds[0]), *leaf.value.shape)
        return found

    def audit(self, outputs: Tensor | Sequence[Tensor], composite: Composite) -> Audit:
        """The rule that every node of the graph follows under a composite, without propagating anything."""
        plan, _ = self._resolved_plan(_tuple(outputs), composite, ledger=False)
        return Audit.of(plan, composite, self.places)

    def _where_lost(self, outputs: Sequence[Tensor], seeds: Sequence[Tensor], plan: Plan) -> str:
        """Where a value became NaN or infinite: in the weights, on the way forward, or on the way back."""
        found = in_weights(self.model)
        if found is None and not all(bool(output.isfinite().all()) for output in outputs):
            found = on_the_way_forward(self.model, lambda: self._again(detail=True))
        if found is not None:
            return found
        singles = [[seed[target : target + 1] for seed in seeds] for target in range(len(seeds[0]))]
        return on_the_way_back(
            plan, self.places, lambda: [self._backward(outputs, single, plan, True) for single in singles]
        )

    def _again(self, *, detail: bool, around: Callable[[int], Any] | None = None) -> None:
        """Repeat the forward pass."""
        first = self.recording
        record_forward(
            self.model,
            self.inputs,
            detail=detail,
            around=around,
            embedded=self.embedded,
            rotary=first.rotary,
            then=first.then,
            visual=first.visual,
        )

    def _graph(self, outputs: Sequence[Tensor]) -> Graph:
        roots = _roots(outputs)
        key = tuple(roots)
        if key not in self._graphs:
            self._graphs[key] = Graph.below(roots)
        return self._graphs[key]

    def _resolved_plan(
        self, outputs: Sequence[Tensor], composite: Composite, *, ledger: bool
    ) -> tuple[Plan, Mapping[int, Tensor]]:
        """The plan, and by node the constants that it needs; runs the model again if autograd did not keep them."""
        graph = self._graph(outputs)
        leaves = {leaf.variable: ADDED if leaf.added else LIVE for leaf in self.recording.leaves}
        inputs = [leaf.variable for leaf in self.recording.leaves if leaf.role in ("tokens", "inputs")]
        kept = self._kept_operands(graph, composite)
        plan = plan_treatments(graph, leaves, composite, self.places, kept, inputs)
        self._forget_plain_sums(plan, kept)
        constants = plan.constants if ledger else []
        if not plan.unresolved and not constants:
            return plan, {}
        start = self.recording.start
        numbers = {i: graph.nodes[i]._sequence_nr() - start for i in (*constants, *plan.unresolved)}
        dead = [graph.nodes[i]._sequence_nr() - start for i, live in enumerate(plan.live) if not live]
        captures: list[Capture] = []

        def around(first: int) -> Capture:
            wanted = [numbers[i] for i in constants], [numbers[i] for i in plan.unresolved]
            captures.append(Capture(first, *wanted, dead))
            return captures[0]

        self.repeated += 1
        self._again(detail=False, around=around)
        (capture,) = captures
        operands = {i: capture.operands[numbers[i]] for i in plan.unresolved if numbers[i] in capture.operands}
        if len(operands) < len(plan.unresolved):
            raise ApportionError("the model ran other operations when it was run again, so it cannot be explained.")
        if operands:
            again = plan_treatments(graph, leaves, composite, self.places, {**kept, **operands}, inputs)
            plan = replace(again, constants=plan.constants)
        return plan, {i: capture.constants[numbers[i]] for i in constants if numbers[i] in capture.constants}

    def _kept_operands(self, graph: Graph, composite: Composite) -> dict[int, Operands]:
        """The summands that the first pass kept, if the composite has a rule for residual sums."""
        if self.summands is None or not composite.reads_summands:
            return {}
        return self.summands.of(graph.nodes, [i for i, name in enumerate(graph.names) if name in SUMS])

    def _forget_plain_sums(self, plan: Plan, kept: Collection[int]) -> None:
        """Free the summands of sums that are not residual sums, such as rotations."""
        if self.summands is not None:
            plain = [i for i in kept if (treatment := plan.treatments[i]) is None or treatment.kind != "residual"]
            self.summands.forget(plan.graph.nodes, plain)

    def _backward(
        self, outputs: Sequence[Tensor], seeds: Sequence[Tensor], plan: Plan, keep_graph: bool
    ) -> dict[str, Tensor]:
        leaves = [i for i, name in enumerate(plan.graph.names) if name == "AccumulateGrad" and plan.needed[i]]
        reached = {plan.graph.nodes[i].variable for i in leaves}
        named: dict[str, Leaf | Site] = {name: leaf for name, leaf in self.leaves.items() if leaf.variable in reached}
        if self.recording.site is not None:
            named[self.recording.site.path] = self.recording.site
        return self._gradients_of(named, outputs, seeds, keep_graph)

    def _gradients_of(
        self,
        named: Mapping[str, Leaf] | Mapping[str, Leaf | Site],
        outputs: Sequence[Tensor],
        seeds: Sequence[Tensor],
        keep_graph: bool,
    ) -> dict[str, Tensor]:
        """Gradients of the targets by some leaves through the graph with its hooks, without leaves that get none."""
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
                    "the model overwrites values that its own derivative needs, so nothing can be propagated; "
                    "if it keeps a cache or a state, switch that off (use_cache=False)."
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
        accounts: Accounts,
        plan: Plan,
    ) -> Ledger:
        wide = torch.float64
        total = sum(
            (output.detach().to(wide) * seed.to(wide)).reshape(len(seed), -1).sum(1)
            for output, seed in zip(outputs, seeds, strict=True)
        )
        assert isinstance(total, Tensor)
        total = total.cpu()
        entries: list[tuple[str, str, Tensor]] = [
            (self.leaves[name].role, name, amount.flatten(1).sum(1)) for name, amount in relevance.items()
        ]
        entries += accounts.entries(plan)
        # All at once: one transfer from the device, not one per entry.
        amounts = torch.stack([amount.to(wide).expand(len(total)) for _, _, amount in entries]).cpu()
        details: dict[str, dict[str, Tensor]] = {}
        for (line, entry, _), amount in zip(entries, amounts, strict=True):
            named = details.setdefault(line, {})
            named[entry] = named[entry] + amount if entry in named else amount
        lines = {line: sum(named.values(), torch.zeros_like(total)) for line, named in details.items()}
        return Ledger(total=total, lines=lines, details=details)


def _roots(outputs: Sequence[Tensor]) -> list[Node]:
    """The nodes that computed the outputs."""
    if any(output.grad_fn is None for output in outputs):
        raise ApportionError(
            "the explained output does not depend on any embedding or input of the model "
            "(it was detached, or computed without gradients), so nothing can be attributed."
        )
    return [output.grad_fn for output in outputs]


def _tuple(tensors: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    return (tensors,) if isinstance(tensors, Tensor) else tuple(tensors)


def _some_at_once(seeds: Sequence[Tensor]) -> Iterator[tuple[list[Tensor], bool]]:
    """The seeds in chunks of targets, each with whether more follow."""
    count = len(seeds[0])
    for start in range(0, count, TARGETS_AT_ONCE):
        end = start + TARGETS_AT_ONCE
        yield [seed[start:end] for seed in seeds], end < count


@contextlib.contextmanager
def _quiet_fallback() -> Iterator[None]:
    """Suppress the warning that torch runs a kernel target by target since it cannot batch it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield
