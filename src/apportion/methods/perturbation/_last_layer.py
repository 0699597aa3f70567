"""Computes the last layer only at the rows the target reads; other rows contribute only keys and values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicLayer

from apportion.core import ApportionError


class Kept(DynamicLayer):
    """Keys and values of a prefix, lent to a batch: those of the suffix are appended for one call, and not kept."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The keys and values of prefix and suffix; those of the prefix stay unchanged."""
        assert self.keys is not None
        assert self.values is not None
        return torch.cat([self.keys, key_states], -2), torch.cat([self.values, value_states], -2)


class KeptOfLast(Kept):
    """The same for a last layer that is called twice: for all keys and values, then for the rows to read."""

    joined: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Stops the first call once the keys and values are known; returns them to the second."""
        if self.joined is None:
            self.joined = super().update(key_states, value_states)
            raise _EnoughError
        return self.joined


class _EnoughError(Exception):
    """The keys and values of all rows are known; the rest of the call is not needed."""


def last_layer(model: nn.Module, layers: int) -> nn.Module | None:
    """The last of a model's layers, if its attention takes masks that can be cut to a few rows."""
    if getattr(getattr(model, "config", None), "_attn_implementation", None) not in ("sdpa", "eager"):
        return None
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == layers]
    # With several stacks, such as that of a vision tower, it is unknown which one fills the cache.
    return stacks[0][-1] if len(stacks) == 1 and "forward" not in vars(stacks[0][-1]) else None


@contextmanager
def only_rows(layer: nn.Module | None, rows: Sequence[int]) -> Iterator[None]:
    """Let a layer return only some of its input rows; restore it afterwards. None changes nothing.

    It must be the last layer of a causal model that runs with a cache whose last layer is a `KeptOfLast`.
    """
    if layer is None:
        yield
        return
    forward = layer.forward
    chosen = torch.tensor(list(rows))

    def trimmed(hidden: Tensor, **options: Any) -> Any:
        if "attention_mask" not in options or "past_key_values" not in options:
            raise ApportionError("the layer is not called with an attention mask and a cache.")
        with suppress(_EnoughError):
            forward(hidden, **options)
            raise ApportionError("the layer does not update the cache as expected.")
        place = chosen.to(hidden.device)
        if options["attention_mask"] is None:
            options["attention_mask"] = _causal(hidden, options["past_key_values"].get_seq_length())
        few = {name: _cut(value, hidden.shape[1], place) for name, value in options.items()}
        return forward(hidden[:, place], **few)

    try:
        layer.forward = trimmed
        yield
    finally:
        del layer.forward


def _causal(hidden: Tensor, before: int) -> Tensor:
    """The mask of a causal model, (1, 1, query, key), for rows that follow a prefix."""
    count, least = hidden.shape[1], torch.finfo(hidden.dtype).min
    mask = torch.full((count, before + count), least, dtype=hidden.dtype, device=hidden.device)
    return mask.triu(before + 1)[None, None]


def _cut(value: Any, length: int, rows: Tensor) -> Any:
    """The entries of these rows, if the value has an entry for each row."""
    if isinstance(value, tuple):
        return tuple(_cut(one, length, rows) for one in value)
    if not isinstance(value, Tensor):
        return value
    axis = {1: 0, 2: 1, 3: 1, 4: 2}.get(value.ndim)
    return value.index_select(axis, rows) if axis is not None and value.shape[axis] == length else value
