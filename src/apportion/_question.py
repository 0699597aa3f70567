"""A question: some prompts, what is asked about them, and the one forward pass that every method shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from apportion._target import AnyTarget, Reading, Span, Target, read_callable
from apportion.models._outputs import Head, detached
from apportion.models._prompt import Prompt
from apportion.relevance import Trace, record


@dataclass(frozen=True)
class Read:
    """What was read of one forward pass.

    Args:
        readings: For each example its targets, with names and units.
        values: For each example the number of each target.
        outputs: The model's outputs that the targets depend on.
        seeds: For each of these the derivative of the targets by it, with an axis of targets in front.
    """

    readings: list[list[Reading]]
    values: list[list[float]]
    outputs: list[Tensor]
    seeds: list[Tensor]


class Question:
    """Targets to divide for a batch of prompts.

    Args:
        head: The model and what its outputs are.
        prompts: Examples that run together; shorter ones are padded on the right, where nothing explained looks.
        targets: What is asked of each.
        detail: Whether the trace tells all modules apart, or only layers.
    """

    def __init__(
        self, head: Head, prompts: Sequence[Prompt], targets: Sequence[AnyTarget], *, detail: bool = False
    ) -> None:
        self.head, self.targets, self.detail = head, list(targets), detail
        #: Whether no other method will ask for the trace, so that its graph may be freed on the way back.
        self.last_method = False
        self.given = list(prompts)
        self.prompts = [head.prepare(prompt, targets) for prompt in prompts]
        self.rows = [head.positions(prompt, self.targets) for prompt in self.prompts]

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
        question = Question(self.head, self.given, self.targets, detail=True)
        question.last_method = False
        return question

    @cached_property
    def trace(self) -> Trace:
        """The recorded forward pass."""
        return record(self.head.model, self.inputs, detail=self.detail)

    @cached_property
    def read(self) -> Read:
        """The targets' values and their derivatives by the outputs; the model's graph is not touched."""
        source, originals, leaves = self._detached()
        readings = [[self._reading(b, t, source) for t in range(len(self.targets))] for b in range(len(self.prompts))]
        values = [[reading.value(source) for reading in of_example] for of_example in readings]
        seeds: list[list[Tensor]] = [[] for _ in leaves]
        for of_target in zip(*values, strict=True):
            # Examples do not touch each other, so the sum of their targets goes back to each alone.
            total = sum(of_target[1:], of_target[0])
            gradients = torch.autograd.grad(total, leaves, retain_graph=True, allow_unused=True)
            for k, gradient in enumerate(gradients):
                seeds[k].append(torch.zeros_like(leaves[k]) if gradient is None else gradient)
        used = [k for k in range(len(leaves)) if any(bool((seed != 0).any()) for seed in seeds[k])] or [0]
        return Read(
            readings=readings,
            values=[[value.item() for value in of_example] for of_example in values],
            outputs=[originals[k] for k in used],
            seeds=[torch.stack(seeds[k]) for k in used],
        )

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
        if not all(isinstance(target, Target | Span) for target in self.targets):
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
        if any(not isinstance(target, Target | Span) for target in self.targets):
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
