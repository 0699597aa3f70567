"""A task: prompts, targets, and the forward pass that all methods share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.models import Head, detached
from apportion.models.anatomy import in_evaluation
from apportion.models.inputs import Prompt
from apportion.relevance import Trace, record
from apportion.targets import AnyTarget, At, TargetFn, computed_outputs
from apportion.task._batching import TOKENS_AT_ONCE, _of_similar_length, _stacked
from apportion.task._variant import Variant


@dataclass
class Passes:
    """The number of examples that ran forward for a task, and backward (once per target)."""

    forward: float = 0
    backward: float = 0


@dataclass(frozen=True)
class TargetValues:
    """The targets' values in one forward pass.

    Args:
        functions: For each example its targets, with names and units.
        values: For each example the value of each target.
        derive: Computes the outputs that the targets depend on and the seeds, when they are first needed.
    """

    functions: list[list[TargetFn]]
    values: list[list[float]]
    derive: Callable[[], tuple[list[Tensor], list[Tensor]]]

    @property
    def outputs(self) -> list[Tensor]:
        """The model's outputs that the targets depend on."""
        return self._derivatives[0]

    @property
    def seeds(self) -> list[Tensor]:
        """For each of the outputs the derivative of the targets by it, with an axis of targets in front."""
        return self._derivatives[1]

    @cached_property
    def _derivatives(self) -> tuple[list[Tensor], list[Tensor]]:
        return self.derive()


class AttributionTask:
    """Targets to divide for a batch of prompts.

    Args:
        head: The model and its outputs.
        prompts: Examples that run together; shorter ones are padded on the right, which no target reads.
        targets: The targets of each prompt.
        detail: Whether the trace distinguishes all modules, or only layers.
        rows: For each prompt and target the rows of the output to read, if the prompts are already prepared.
        progress: Whether methods may show a progress bar.
    """

    def __init__(
        self,
        head: Head,
        prompts: Sequence[Prompt],
        targets: Sequence[AnyTarget],
        *,
        detail: bool = False,
        rows: Sequence[Sequence[tuple[int, ...]]] | None = None,
        progress: bool = False,
    ) -> None:
        self.head = head
        self.targets: list[AnyTarget] = list(targets)
        self.detail = detail
        self.progress = progress
        #: Whether no other method needs the trace, so that its graph may be freed in the backward pass.
        self.last_method = False
        #: Whether the trace keeps the summands of sums, for methods that need them.
        self.summands = False
        self.passes: Passes = Passes()
        if rows is None:
            self.prompts: list[Prompt] = [head.prepare(prompt, targets) for prompt in prompts]
            self.rows: list[list[tuple[int, ...]]] = [
                [target.rows(prompt, head) for target in targets] for prompt in self.prompts
            ]
        else:
            self.prompts, self.rows = list(prompts), [list(of_prompt) for of_prompt in rows]
        #: Computes the targets from the model's output, if they are computed inside the graph.
        self._then = computed_outputs(self.targets, self.prompts)

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """The model's keyword arguments for the whole batch."""
        inputs = dict(self.prompts[0].inputs) if len(self.prompts) == 1 else _stacked(self.prompts)
        if self.head.accepts("use_cache"):
            inputs["use_cache"] = False
        if self._keep is not None:
            inputs["logits_to_keep"] = self._keep
        return inputs

    def in_detail(self) -> AttributionTask:
        """The same task, with a forward pass of its own that distinguishes all modules."""
        return self._like(self.prompts, self.rows, detail=True)

    def about(self, targets: Sequence[AnyTarget]) -> AttributionTask:
        """A task with the same forward pass and other targets, read in the same places."""
        rows = [[of_prompt[0]] * len(targets) for of_prompt in self.rows]
        task = AttributionTask(self.head, self.prompts, targets, detail=self.detail, rows=rows)
        task.passes, task.trace = self.passes, self.trace
        return task

    def single(self, example: int) -> AttributionTask:
        """The same task for one of the examples."""
        if len(self.prompts) == 1:
            return self
        return self._like([self.prompts[example]], [self.rows[example]], detail=self.detail)

    def _like(
        self, prompts: Sequence[Prompt], rows: Sequence[Sequence[tuple[int, ...]]], *, detail: bool
    ) -> AttributionTask:
        task = AttributionTask(self.head, prompts, self.targets, detail=detail, rows=rows, progress=self.progress)
        task.passes, task.summands = self.passes, self.summands
        return task

    @cached_property
    def trace(self) -> Trace:
        """The recorded forward pass."""
        return self.recorded(detail=self.detail, summands=self.summands)

    def recorded(self, **options: Any) -> Trace:
        """Another recorded forward pass, with options of `record`."""
        self.passes.forward += len(self.prompts)
        prompt = self.prompts[0]
        try:
            return record(self.head.model, self.inputs, then=self._then, visual=prompt.at_visual_tokens, **options)
        except ValueError as error:  # models of images raise this for images of a wrong size
            if isinstance(error, ApportionError) or not prompt.continuous_inputs:
                raise
            shape = next(tuple(self.inputs[c.name].shape) for c in prompt.continuous_inputs if c.name in self.inputs)
            name, said = type(self.head.model).__name__, str(error).splitlines()[0]
            raise ApportionError(f"{name} refuses an input of the shape {shape}: {said}") from error

    @cached_property
    def target_values(self) -> TargetValues:
        """The targets' values and their derivatives by the outputs, without the model's graph."""
        source, originals, leaves = self._detached()
        functions = [[self._function(b, t, source) for t in range(len(self.targets))] for b in range(len(self.prompts))]
        # Unbound, so that the derivative of one example does not fill a tensor of all.
        given = source.unbind(0) if self._of_outputs else source
        values = [[function.value(given) for function in of_example] for of_example in functions]

        def derive() -> tuple[list[Tensor], list[Tensor]]:
            seeds: list[list[Tensor]] = [[] for _ in leaves]
            for of_target in zip(*values, strict=True):
                # Examples are independent, so the derivative of the sum gives that of each.
                total = sum(of_target[1:], of_target[0])
                gradients = torch.autograd.grad(total, leaves, retain_graph=True, allow_unused=True)
                for k, gradient in enumerate(gradients):
                    seeds[k].append(torch.zeros_like(leaves[k]) if gradient is None else gradient)
            used = [k for k in range(len(leaves)) if any(bool((seed != 0).any()) for seed in seeds[k])] or [0]
            return [originals[k] for k in used], [torch.stack(seeds[k]) for k in used]

        return TargetValues(
            functions=functions, values=[[value.item() for value in of_example] for of_example in values], derive=derive
        )

    def values_in_graph(self) -> Float[Tensor, "examples targets"]:
        """The targets as part of the model's graph, for second derivatives."""
        output = self.trace.output
        source = self.head.logits(output).unbind(0) if self._of_outputs else output
        return torch.stack([torch.stack([one.value(source) for one in of]) for of in self.target_values.functions])

    @cached_property
    def resolved(self) -> list[list[AnyTarget]]:
        """For each example its targets, with the most likely output filled in if none was named."""
        return [[self._resolved(b, t, asked) for t, asked in enumerate(self.targets)] for b in range(len(self.prompts))]

    def evaluate(self, example: int, variants: Sequence[Variant]) -> Float[Tensor, "variants targets"]:
        """An example's targets for changed inputs, from batched forward passes without a graph.

        If no output is named, the most likely one of the unchanged prompt is the target of all variants.
        """
        values = torch.empty(len(variants), len(self.targets), dtype=torch.float64)
        for members in self.running_together(variants):
            prompts, rows = [variants[i].prompt for i in members], [variants[i].rows for i in members]
            task = AttributionTask(self.head, prompts, self.resolved[example], rows=rows)
            changes = [change for i in members if (change := variants[i].change) is not None]
            with changes[0].applied_to(self.head.model, changes) if changes else nullcontext():
                values[members] = task._values_without_graph()
            self.passes.forward += len(members)
        return values

    def running_together(self, variants: Sequence[Variant], *, tokens: int = TOKENS_AT_ONCE) -> Iterator[list[int]]:
        """Indices of variants that run together: of similar length, with at most so many tokens.

        For a user's function as a target, each variant runs alone.
        """
        most = None if self._of_outputs else 1
        kinds: dict[Hashable, list[int]] = {}
        for i, variant in enumerate(variants):
            kinds.setdefault(None if variant.change is None else variant.change.kind, []).append(i)
        for of_kind in kinds.values():
            prompts = [variants[i].prompt for i in of_kind]
            for members in _of_similar_length(self.head, prompts, most=most, tokens=tokens):
                yield [of_kind[k] for k in members]

    def _values_without_graph(self) -> Float[Tensor, "examples targets"]:
        with in_evaluation(self.head.model), torch.no_grad():
            output = self.head.model(**self.inputs)
            output = output if self._then is None else self._then(output)
            source = self.head.logits(output) if self._of_outputs else output
            examples, targets = range(len(self.prompts)), range(len(self.targets))
            values = [torch.stack([self._function(b, t, source).value(source) for t in targets]) for b in examples]
        return torch.stack(values).double().cpu()

    def _resolved(self, example: int, target: int, asked: AnyTarget) -> AnyTarget:
        if not asked.names_outputs:
            return asked
        logits = self.head.logits(self.trace.output).detach()
        return asked.resolved(self.head, self._at(example, target, logits), logits)

    @cached_property
    def predictions(self) -> list[tuple[tuple[str, float], ...]]:
        """For each example the most likely outputs at the place of its first target."""
        found: list[tuple[tuple[str, float], ...]] = []
        for b, rows in enumerate(self.rows):
            logits = getattr(getattr(self.trace.output, "output", self.trace.output), "logits", None)
            if not isinstance(logits, Tensor) or not (self.targets[0].names_outputs or self.head.kind.of_images):
                found.append(())
                continue
            places = self._in_logits(rows[0], logits) if rows[0] else ()
            found.append(self.head.prediction(logits.detach()[(b, *places[:1])]))
        return found

    @cached_property
    def _keep(self) -> int | None:
        """How many rows at the end the model has to compute, if it can omit the others."""
        read = [places for rows in self.rows for places in rows]
        # A target that names no rows reads the whole output.
        if not self.head.kind.looks_back or not self.head.accepts("logits_to_keep") or not all(read):
            return None
        return max(prompt.length for prompt in self.prompts) - min(map(min, read))

    def _in_logits(self, rows: tuple[int, ...], logits: Tensor) -> tuple[int, ...]:
        """Rows of the text as rows of a tensor that contains only the last ones."""
        if not rows:
            return rows
        name = self.head.kind.rows_in(tuple(self.prompts[0].parts))
        left_out = self.inputs[name].shape[1] - logits.shape[1] if self._keep is not None else 0
        return tuple(row - left_out for row in rows)

    def _detached(self) -> tuple[Any, list[Tensor], list[Tensor]]:
        """The detached logits, or the whole output if a target is a function of it, with originals and leaves."""
        if not self._of_outputs:
            return detached(self.trace.output)
        logits = self.head.logits(self.trace.output)
        leaf = logits.detach().requires_grad_(True)
        return leaf, [logits], [leaf]

    def _function(self, example: int, target: int, source: Any) -> TargetFn:
        asked = self.targets[target]
        if asked.of_whole_output:
            return asked.as_function(self.head, At(example, target, ()), source)
        logits = source if isinstance(source, Tensor) else self.head.logits(source)
        function = asked.as_function(self.head, self._at(example, target, logits), logits.detach())
        if isinstance(source, Tensor):
            return function
        return replace(function, value=lambda output: function.value(self.head.logits(output)))

    def _at(self, example: int, target: int, logits: Tensor) -> At:
        return At(example, target, self._in_logits(self.rows[example][target], logits))

    @property
    def _of_outputs(self) -> bool:
        """Whether all targets read the logits, rather than the whole output."""
        return not any(target.of_whole_output for target in self.targets)
