"""A task: prompts, targets, and the one forward pass that every method shares."""

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
    """How much the model has run for a task, in examples.

    Args:
        forward: Forward passes.
        backward: Backward passes, one a target.
    """

    forward: float = 0
    backward: float = 0


@dataclass(frozen=True)
class TargetValues:
    """What was read of one forward pass.

    Args:
        functions: For each example its targets, with names and units.
        values: For each example the number of each target.
        derive: Computes the outputs that the targets depend on and the seeds, when a method asks for them first.
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
        head: The model and what its outputs are.
        prompts: Examples that run together; shorter ones are padded on the right, where nothing explained looks.
        targets: What is asked of each.
        detail: Whether the trace tells all modules apart, or only layers.
        rows: For each prompt and target the rows of the output to read, when the prompts are prepared already.
        progress: Whether a method that takes long may show a progress bar.
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
        #: Whether no other method will ask for the trace, so that its graph may be freed on the way back.
        self.last_method = False
        #: Whether the trace keeps the summands of sums, for methods that ask for them.
        self.summands = False
        self.passes: Passes = Passes()
        if rows is None:
            self.prompts: list[Prompt] = [head.prepare(prompt, targets) for prompt in prompts]
            self.rows: list[list[tuple[int, ...]]] = [
                [target.rows(prompt, head) for target in targets] for prompt in self.prompts
            ]
        else:
            self.prompts, self.rows = list(prompts), [list(of_prompt) for of_prompt in rows]
        #: What the targets compute from the model's output, where they do so inside the graph.
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
        """The same task, with a forward pass of its own that tells all modules apart."""
        task = AttributionTask(
            self.head, self.prompts, self.targets, detail=True, rows=self.rows, progress=self.progress
        )
        task.passes, task.summands = self.passes, self.summands
        return task

    def about(self, targets: Sequence[AnyTarget]) -> AttributionTask:
        """Another task about the same forward pass: other numbers, read where these are read."""
        rows = [[of_prompt[0]] * len(targets) for of_prompt in self.rows]
        task = AttributionTask(self.head, self.prompts, targets, detail=self.detail, rows=rows)
        task.passes, task.trace = self.passes, self.trace
        return task

    def single(self, example: int) -> AttributionTask:
        """The same task about one of the examples."""
        if len(self.prompts) == 1:
            return self
        task = AttributionTask(
            self.head,
            [self.prompts[example]],
            self.targets,
            detail=self.detail,
            rows=[self.rows[example]],
            progress=self.progress,
        )
        task.passes, task.summands = self.passes, self.summands
        return task

    @cached_property
    def trace(self) -> Trace:
        """The recorded forward pass."""
        return self.recorded(detail=self.detail, summands=self.summands)

    def recorded(self, **options: Any) -> Trace:
        """A recorded forward pass of its own, with options of `record`."""
        self.passes.forward += len(self.prompts)
        visual = self.prompts[0].at_visual_tokens
        try:
            return record(self.head.model, self.inputs, then=self._then, visual=visual, **options)
        except ValueError as error:  # so models of images refuse a size that they do not take
            if isinstance(error, ApportionError) or not self.prompts[0].continuous_inputs:
                raise
            shapes = [
                tuple(self.inputs[c.name].shape) for c in self.prompts[0].continuous_inputs if c.name in self.inputs
            ]
            name, said = type(self.head.model).__name__, str(error).splitlines()[0]
            raise ApportionError(f"{name} refuses an input of the shape {shapes[0]}: {said}") from error

    @cached_property
    def target_values(self) -> TargetValues:
        """The targets' values and their derivatives by the outputs; the model's graph is not touched."""
        source, originals, leaves = self._detached()
        functions = [[self._function(b, t, source) for t in range(len(self.targets))] for b in range(len(self.prompts))]
        # Apart from each other, so that the derivative of one example does not fill a tensor of all.
        given = source.unbind(0) if self._of_outputs else source
        values = [[function.value(given) for function in of_example] for of_example in functions]

        def derive() -> tuple[list[Tensor], list[Tensor]]:
            seeds: list[list[Tensor]] = [[] for _ in leaves]
            for of_target in zip(*values, strict=True):
                # Examples do not touch each other, so the sum of their targets goes back to each alone.
                total = sum(of_target[1:], of_target[0])
                gradients = torch.autograd.grad(total, leaves, retain_graph=True, allow_unused=True)
                for k, gradient in enumerate(gradients):
                    seeds[k].append(torch.zeros_like(leaves[k]) if gradient is None else gradient)
            used = [k for k in range(len(leaves)) if any(bool((seed != 0).any()) for seed in seeds[k])] or [0]
            return [originals[k] for k in used], [torch.stack(seeds[k]) for k in used]

        return TargetValues(
            functions=functions,
            values=[[value.item() for value in of_example] for of_example in values],
            derive=derive,
        )

    def values_in_graph(self) -> Float[Tensor, "examples targets"]:
        """The targets as part of the model's graph, for derivatives of a derivative."""
        output = self.trace.output
        source = self.head.logits(output).unbind(0) if self._of_outputs else output
        return torch.stack([torch.stack([one.value(source) for one in of]) for of in self.target_values.functions])

    @cached_property
    def resolved(self) -> list[list[AnyTarget]]:
        """For each example its targets, with the most likely output filled in where none was named."""
        return [[self._resolved(b, t, asked) for t, asked in enumerate(self.targets)] for b in range(len(self.prompts))]

    def evaluate(self, example: int, variants: Sequence[Variant]) -> Float[Tensor, "variants targets"]:
        """What an example's targets are for changed inputs: ordinary forward passes, batched, without a graph.

        Args:
            example: Which of the prompts was changed; its targets are fixed as it reads them unchanged.
            variants: The changed inputs.
        """
        values = torch.empty(len(variants), len(self.targets), dtype=torch.float64)
        for members in self.running_together(variants):
            task = AttributionTask(
                self.head,
                [variants[i].prompt for i in members],
                self.resolved[example],
                rows=[variants[i].rows for i in members],
            )
            changes = [change for i in members if (change := variants[i].change) is not None]
            with changes[0].applied_to(self.head.model, changes) if changes else nullcontext():
                values[members] = task._values_without_graph()
            self.passes.forward += len(members)
        return values

    def running_together(self, variants: Sequence[Variant], *, tokens: int = TOKENS_AT_ONCE) -> Iterator[list[int]]:
        """Indices of variants that run together: of like length, and about so many tokens.

        A function of the user's as a target sees the output of one prompt.
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
        """For each example the most likely outputs where its first target reads."""
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
        """How many rows at the end the model has to compute, where it can leave out the others."""
        read = [places for rows in self.rows for places in rows]
        # A target that names no rows reads the whole output.
        if not self.head.kind.looks_back or not self.head.accepts("logits_to_keep") or not all(read):
            return None
        return max(prompt.length for prompt in self.prompts) - min(map(min, read))

    def _in_logits(self, rows: tuple[int, ...], logits: Tensor) -> tuple[int, ...]:
        """Rows of the text as rows of a tensor that holds only the last ones."""
        if not rows:
            return rows
        name = self.head.kind.rows_in(tuple(self.prompts[0].parts))
        left_out = self.inputs[name].shape[1] - logits.shape[1] if self._keep is not None else 0
        return tuple(row - left_out for row in rows)

    def _detached(self) -> tuple[Any, list[Tensor], list[Tensor]]:
        """What the targets read, cut off from the model: the logits, or the whole output where a function wants it."""
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
        """Whether all targets read the model's logits, rather than being functions of its whole output."""
        return not any(target.of_whole_output for target in self.targets)
