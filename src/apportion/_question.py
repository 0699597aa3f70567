"""A question: some prompts, what is asked about them, and the one forward pass that every method shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from apportion._target import AnyTarget, Reading, Span, Target, read_callable
from apportion.models._outputs import Head, detached
from apportion.models._prompt import Prompt
from apportion.models._running import in_evaluation
from apportion.relevance import Trace, record

#: How many tokens run together where many changed prompts are read: enough to keep a processor busy.
TOKENS_AT_ONCE = 2048


@dataclass(frozen=True)
class Variant:
    """One example changed for the model to read again, such as with tokens left out.

    Args:
        prompt: What the model reads; only its `inputs` and `parts` count.
        rows: For each target the rows of the output that it reads now.
    """

    prompt: Prompt
    rows: Sequence[tuple[int, ...]]


@dataclass
class Passes:
    """How much the model has run for a question, in examples.

    Args:
        forward: Forward passes.
        backward: Backward passes, one a target.
    """

    forward: float = 0
    backward: float = 0


@dataclass(frozen=True)
class Read:
    """What was read of one forward pass.

    Args:
        readings: For each example its targets, with names and units.
        values: For each example the number of each target.
        derive: Computes the outputs that the targets depend on and the seeds, when a method asks for them first.
    """

    readings: list[list[Reading]]
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


class Question:
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
        self.head, self.targets, self.detail, self.progress = head, list(targets), detail, progress
        #: Whether no other method will ask for the trace, so that its graph may be freed on the way back.
        self.last_method = False
        self.passes = Passes()
        if rows is None:
            self.prompts = [head.prepare(prompt, targets) for prompt in prompts]
            self.rows = [head.positions(prompt, self.targets) for prompt in self.prompts]
        else:
            self.prompts, self.rows = list(prompts), [list(of_prompt) for of_prompt in rows]

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """The model's keyword arguments for the whole batch."""
        inputs = dict(self.prompts[0].inputs) if len(self.prompts) == 1 else _stacked(self.prompts)
        if self.head.accepts("use_cache"):
            inputs["use_cache"] = False
        if self._keep is not None:
            inputs["logits_to_keep"] = self._keep
        return inputs

    def in_detail(self) -> Question:
        """The same question, with a forward pass of its own that tells all modules apart."""
        question = Question(self.head, self.prompts, self.targets, detail=True, rows=self.rows, progress=self.progress)
        question.passes = self.passes
        return question

    def about(self, targets: Sequence[AnyTarget]) -> Question:
        """Another question about the same forward pass: other numbers, read where these are read."""
        rows = [[of_prompt[0]] * len(targets) for of_prompt in self.rows]
        question = Question(self.head, self.prompts, targets, detail=self.detail, rows=rows)
        question.passes, question.trace = self.passes, self.trace
        return question

    def alone(self, example: int) -> Question:
        """The same question about one of the examples."""
        if len(self.prompts) == 1:
            return self
        question = Question(
            self.head,
            [self.prompts[example]],
            self.targets,
            detail=self.detail,
            rows=[self.rows[example]],
            progress=self.progress,
        )
        question.passes = self.passes
        return question

    @cached_property
    def trace(self) -> Trace:
        """The recorded forward pass."""
        self.passes.forward += len(self.prompts)
        return record(self.head.model, self.inputs, detail=self.detail)

    @cached_property
    def read(self) -> Read:
        """The targets' values and their derivatives by the outputs; the model's graph is not touched."""
        source, originals, leaves = self._detached()
        readings = [[self._reading(b, t, source) for t in range(len(self.targets))] for b in range(len(self.prompts))]
        values = [[reading.value(source) for reading in of_example] for of_example in readings]

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

        return Read(
            readings=readings,
            values=[[value.item() for value in of_example] for of_example in values],
            derive=derive,
        )

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
        prompts = [variant.prompt for variant in variants]
        for members in _of_similar_length(self.head, prompts, most=None if _only_outputs(self.targets) else 1):
            question = Question(
                self.head,
                [variants[i].prompt for i in members],
                self.resolved[example],
                rows=[variants[i].rows for i in members],
            )
            values[members] = question._values_without_graph()
            self.passes.forward += len(members)
        return values

    def _values_without_graph(self) -> Float[Tensor, "examples targets"]:
        with in_evaluation(self.head.model), torch.no_grad():
            output = self.head.model(**self.inputs)
            source = self.head.logits(output) if _only_outputs(self.targets) else output
            examples, targets = range(len(self.prompts)), range(len(self.targets))
            values = [torch.stack([self._reading(b, t, source).value(source) for t in targets]) for b in examples]
        return torch.stack(values).double().cpu()

    def _resolved(self, example: int, target: int, asked: AnyTarget) -> AnyTarget:
        if not isinstance(asked, Target):
            return asked
        logits = self.head.logits(self.trace.output).detach()
        row = logits[(example, *self._in_logits(self.rows[example][target], logits))]
        output = int(row.argmax()) if asked.output is None else self.head.index(asked.output, row.numel())
        contrast = tuple(self.head.index(other, row.numel()) for other in asked.contrast)
        return replace(asked, output=output, contrast=contrast)

    @cached_property
    def predictions(self) -> list[tuple[tuple[str, float], ...]]:
        """For each example the most likely outputs where its first target reads."""
        found: list[tuple[tuple[str, float], ...]] = []
        for b, rows in enumerate(self.rows):
            logits = getattr(self.trace.output, "logits", None)
            if not isinstance(logits, Tensor) or not isinstance(self.targets[0], Target | Span):
                found.append(())
                continue
            places = self._in_logits(rows[0], logits)
            found.append(self.head.prediction(logits.detach()[(b, *places[:1])]))
        return found

    @cached_property
    def _keep(self) -> int | None:
        """How many rows at the end the model has to compute, where it can leave out the others."""
        if self.head.kind != "causal" or not self.head.accepts("logits_to_keep"):
            return None
        if not _only_outputs(self.targets):
            return None
        longest = max(prompt.length for prompt in self.prompts)
        return longest - min(row for rows in self.rows for places in rows for row in places)

    def _in_logits(self, rows: tuple[int, ...], logits: Tensor) -> tuple[int, ...]:
        """Rows of the text as rows of a tensor that holds only the last ones."""
        if not rows:
            return rows
        name = "decoder_input_ids" if self.head.kind == "seq2seq" else next(iter(self.prompts[0].parts))
        left_out = self.inputs[name].shape[1] - logits.shape[1] if self._keep is not None else 0
        return tuple(row - left_out for row in rows)

    def _detached(self) -> tuple[Any, list[Tensor], list[Tensor]]:
        """What the targets read, cut off from the model: the logits, or the whole output where a function wants it."""
        if not _only_outputs(self.targets):
            return detached(self.trace.output)
        logits = self.head.logits(self.trace.output)
        leaf = logits.detach().requires_grad_(True)
        return leaf, [logits], [leaf]

    def _reading(self, example: int, target: int, source: Any) -> Reading:
        asked = self.targets[target]
        if not isinstance(asked, Target | Span):
            return read_callable(asked)
        logits = source if isinstance(source, Tensor) else self.head.logits(source)
        rows = self._in_logits(self.rows[example][target], logits)
        reading = self.head.reading(asked, rows, logits.detach(), example)
        if isinstance(source, Tensor):
            return reading
        return replace(reading, value=lambda output: reading.value(self.head.logits(output)))


def _only_outputs(targets: Sequence[AnyTarget]) -> bool:
    """Whether all targets read the model's logits, rather than being functions of its whole output."""
    return all(isinstance(target, Target | Span) for target in targets)


def _of_similar_length(head: Head, prompts: Sequence[Prompt], *, most: int | None) -> Iterator[list[int]]:
    """Indices of prompts that run together: about `TOKENS_AT_ONCE` tokens, and at most so many prompts."""
    for members in batches(head, prompts, max(1, len(prompts))):
        start = 0
        while start < len(members):
            longest = max(1, prompts[members[-1]].length)
            count = max(1, TOKENS_AT_ONCE // longest)
            if most is not None:
                count = min(count, most)
            yield members[start : start + count]
            start += count


def _stacked(prompts: Sequence[Prompt]) -> dict[str, Any]:
    """The inputs of several prompts as one batch, padded on the right."""
    longest = {name: max(prompt.inputs[name].shape[1] for prompt in prompts) for name in prompts[0].parts}
    first = next(iter(longest))
    batch: dict[str, Any] = {}
    for name in prompts[0].inputs:
        rows = [prompt.inputs[name] for prompt in prompts]
        if isinstance(rows[0], Tensor) and rows[0].ndim >= 2:
            length = longest.get(
                name, longest[first] if rows[0].shape[1] == prompts[0].length else max(r.shape[1] for r in rows)
            )
            rows = [F.pad(row, (*[0, 0] * (row.ndim - 2), 0, length - row.shape[1])) for row in rows]
            batch[name] = torch.cat(rows)
        else:
            batch[name] = rows[0]
    lengths = [prompt.length for prompt in prompts]
    if "attention_mask" not in batch and len(set(lengths)) > 1:
        places = torch.arange(longest[first], device=batch[first].device)
        batch["attention_mask"] = (places < torch.tensor(lengths, device=places.device)[:, None]).long()
    return batch


def batches(head: Head, prompts: Sequence[Prompt], size: int) -> list[list[int]]:
    """Indices of prompts that may run together.

    A causal model never looks at what follows, so padding on the right is harmless to it; other models get prompts of
    equal length together, since not all of them hide padding completely.
    """
    groups: dict[Any, list[int]] = {}
    for i, prompt in enumerate(prompts):
        names = tuple(sorted(prompt.inputs))
        key = names if head.kind == "causal" else (names, *prompt.parts.values())
        groups.setdefault(key, []).append(i)
    found = []
    for members in groups.values():
        ordered = sorted(members, key=lambda i: prompts[i].length)
        found += [ordered[k : k + size] for k in range(0, len(ordered), size)]
    return found
