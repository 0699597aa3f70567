"""Batching: which prompts run together, and their inputs as one batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from apportion.models import Head
from apportion.models.inputs import CONTINUOUS, Prompt

#: The most tokens in a batch of changed prompts: enough to keep a processor busy.
TOKENS_AT_ONCE = 2048

#: How much longer a prompt may be than the shortest in its batch, so that there is little padding.
ALIKE = 1.25


def tokens_of(prompt: Prompt) -> int:
    """The length of a prompt for batching: the number of its tokens or its patches, whichever is larger."""
    grids = [continuous.patches or (1, continuous.count) for continuous in prompt.continuous_inputs]
    return max([1, prompt.length, *(rows * columns for rows, columns in grids)])


def _of_similar_length(head: Head, prompts: Sequence[Prompt], *, most: int | None, tokens: int) -> Iterator[list[int]]:
    for members in batches(head, prompts, max(1, len(prompts))):
        lengths, start = [tokens_of(prompts[i]) for i in members], 0
        while start < len(members):
            end = start + 1
            while (
                end < len(members)
                and (end + 1 - start) * lengths[end] <= tokens
                and lengths[end] <= ALIKE * lengths[start]
                and (most is None or end - start < most)
            ):
                end += 1
            yield members[start:end]
            start = end


def _stacked(prompts: Sequence[Prompt]) -> dict[str, Any]:
    """The inputs of several prompts as one batch, padded on the right."""
    longest = {name: max(prompt.inputs[name].shape[1] for prompt in prompts) for name in prompts[0].parts}
    first = next(iter(longest), "")
    whole = {continuous.name for continuous in prompts[0].continuous_inputs}
    batch: dict[str, Any] = {}
    for name in prompts[0].inputs:
        rows = [prompt.inputs[name] for prompt in prompts]
        if isinstance(rows[0], Tensor) and (name in whole or (not first and rows[0].ndim >= 2)):
            batch[name] = torch.cat(rows)
        elif isinstance(rows[0], Tensor) and rows[0].ndim >= 2:
            length = longest.get(
                name, longest[first] if rows[0].shape[1] == prompts[0].length else max(r.shape[1] for r in rows)
            )
            rows = [F.pad(row, (*[0, 0] * (row.ndim - 2), 0, length - row.shape[1])) for row in rows]
            batch[name] = torch.cat(rows)
        else:
            batch[name] = rows[0]
    lengths = [prompt.length for prompt in prompts]
    if first and "attention_mask" not in batch and len(set(lengths)) > 1:
        places = torch.arange(longest[first], device=batch[first].device)
        batch["attention_mask"] = (places < torch.tensor(lengths, device=places.device)[:, None]).long()
    return batch


def batches(head: Head, prompts: Sequence[Prompt], size: int) -> list[list[int]]:
    """Indices of prompts that may run together.

    Padding on the right does not affect causal models; other models get prompts of equal length, since not all of them
    mask padding completely. A classifier that finds the last token by the padding after it reads one text at a time
    unless its configuration names a padding token.
    """
    config = getattr(head.model, "config", None)
    one_by_one = head.kind.reads_padding and getattr(config, "pad_token_id", None) is None
    groups: dict[Any, list[int]] = {}
    for i, prompt in enumerate(prompts):
        names = tuple(sorted(prompt.inputs))
        shapes = tuple(tuple(prompt.inputs[name].shape) for name in names if name in CONTINUOUS)
        alone = i if one_by_one or any(not continuous.batched for continuous in prompt.continuous_inputs) else -1
        key = (names, () if head.kind.looks_back else tuple(prompt.parts.values()), shapes, alone)
        groups.setdefault(key, []).append(i)
    by_length = [sorted(members, key=lambda i: prompts[i].length) for members in groups.values()]
    return [ordered[k : k + size] for ordered in by_length for k in range(0, len(ordered), size)]
