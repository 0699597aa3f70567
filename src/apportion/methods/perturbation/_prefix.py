"""Prefix reuse: changed prompts of a causal model, read through the cache of the tokens before the change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from apportion.core import ApportionError
from apportion.methods.perturbation._last_layer import Kept, KeptOfLast, last_layer, only_rows
from apportion.models.anatomy import in_evaluation
from apportion.models.inputs import Prompt
from apportion.targets import At
from apportion.task import AttributionTask, Variant

#: How many tokens run together: enough to keep a processor busy.
TOKENS_AT_ONCE = 512

#: How many variants run together at most. They all begin where the first one changes, so that each of the others reads
#: the tokens between that place and its own again.
VARIANTS_AT_ONCE = 8

# How many tokens the checks run.
_CHECKED = 16

Layers = list[tuple[Tensor, Tensor]]


class PrefixReader:
    """Reads variants of one prompt of a causal model from where they change; `of` makes one if the model allows it."""

    def __init__(self, task: AttributionTask, example: int) -> None:
        self.task, self.example = task, example
        self.head, self.prompt = task.head, task.prompts[example]
        self.part = next(iter(self.prompt.parts))
        #: The rows of the unchanged prompt that targets read; their logits serve every variant that changes after them.
        self.rows = sorted({row for rows in task.rows[example] for row in rows})
        self.layers: Layers = []
        #: The last layer, if it can be run for single rows.
        self.last: nn.Module | None = None
        self.logits: dict[int, Tensor] = {}

    @classmethod
    def of(cls, task: AttributionTask, example: int) -> PrefixReader | None:
        """A reader, or None if variants must be read whole.

        The cache must be an ordinary one, of keys and values of every token; the keys and values of a prefix must not
        depend on later tokens; and the prompt, read through the cache, must give the targets' known values.
        """
        head, prompt = task.head, task.prompts[example]
        fits = (
            head.kind.looks_back
            and head.accepts("past_key_values")
            and head.accepts("use_cache")
            and len(prompt.parts) == 1
            and prompt.length > 1
            and all(target.names_outputs for target in task.targets)
            and not _positions_depend_on_length(getattr(head.model, "config", None))
        )
        if not fits:
            return None
        reader = cls(task, example)
        with in_evaluation(head.model), torch.no_grad():
            return reader if reader._prepared() else None

    @property
    def full(self) -> Float[Tensor, " targets"]:
        """The targets' values for the unchanged prompt."""
        return self._values(self.task.rows[self.example], self.logits)

    def values(self, variants: Sequence[Variant], starts: Sequence[int]) -> Float[Tensor, "variants targets"]:
        """The targets' values for changed prompts, each with the first place where it differs."""
        begins = [self._begin(variant, start) for variant, start in zip(variants, starts, strict=True)]
        values = torch.empty(len(variants), len(self.task.targets), dtype=torch.float64)
        with in_evaluation(self.head.model), torch.no_grad():
            for members in _blocks(variants, begins):
                begin = begins[members[0]]
                if begin is None:
                    for i in members:
                        values[i] = self._values(variants[i].rows, self.logits)
                    continue
                found = self._read([variants[i] for i in members], begin)
                for i, logits in zip(members, found, strict=True):
                    values[i] = self._values(variants[i].rows, logits)
        return values

    def _begin(self, variant: Variant, start: int) -> int | None:
        """Where reading must begin; None if no target depends on the change."""
        rows = {row for of_target in variant.rows for row in of_target}
        if all(row < start and row in self.logits for row in rows):
            return None
        return min([start, *(row for row in rows if row < start and row not in self.logits)])

    def _read(self, variants: Sequence[Variant], begin: int) -> list[dict[int, Tensor]]:
        """For each variant the logits of its rows."""
        rows = sorted({row for variant in variants for of_target in variant.rows for row in of_target if row >= begin})
        prompts = [variant.prompt for variant in variants]
        inputs = _suffixes(prompts, begin)
        cache = _lent(self.layers, begin, len(variants), trimmed=self.last is not None)
        output = self._run(inputs, [row - begin for row in rows], past_key_values=cache)
        tokens = sum(prompt.length - begin for prompt in prompts)
        self.task.passes.forward += tokens / self.prompt.length
        logits = self.head.logits(output)
        return [
            {**self.logits, **{row: logits[k, place] for place, row in enumerate(rows)}} for k in range(len(variants))
        ]

    def _run(self, inputs: Mapping[str, Any], rows: Sequence[int], **more: Any) -> Any:
        """The model's output, with logits of these rows only."""
        arguments = {**inputs, "use_cache": True, **more}
        if self.last is not None and more:
            with only_rows(self.last, rows):
                return self.head.model(**arguments)
        chosen = torch.tensor(list(rows), dtype=torch.long, device=self.prompt.inputs[self.part].device)
        if self.head.accepts("logits_to_keep"):
            return self.head.model(**arguments, logits_to_keep=chosen)
        output = self.head.model(**arguments)
        output.logits = output.logits[:, chosen]
        return output

    def _values(self, rows: Sequence[tuple[int, ...]], logits: Mapping[int, Tensor]) -> Float[Tensor, " targets"]:
        found = []
        for column, (target, places) in enumerate(zip(self.task.resolved[self.example], rows, strict=True)):
            mine = torch.stack([logits[row] for row in places])[None]
            at = At(0, column, tuple(range(len(places))))
            found.append(target.as_function(self.head, at, mine).value(mine))
        return torch.stack(found).double().cpu()

    def _prepared(self) -> bool:
        """Read the whole prompt; whether its cache has the expected contents."""
        whole, length = dict(self.prompt.inputs), self.prompt.length
        output = self._run(whole, self.rows)
        self.task.passes.forward += 1
        layers = _ordinary_layers(output, length)
        if layers is None:
            return False
        self.layers = layers
        logits = self.head.logits(output)
        if logits.shape[1] != len(self.rows):
            return False
        self.logits = {row: logits[0, place] for place, row in enumerate(self.rows)}
        if not self._same_alone(min(_CHECKED, length // 2)) or not self._same_through_cache(length - _CHECKED):
            return False
        self.last = last_layer(self.head.model, len(layers))
        try:
            usable = self.last is None or self._same_through_cache(length - _CHECKED)
        except (ApportionError, AttributeError, IndexError, RuntimeError, TypeError):
            usable = False  # the layer, or a later module, needs all rows
        if not usable:
            self.last = None
        return True

    def _same_alone(self, count: int) -> bool:
        """Whether the first tokens have the same keys and values without those that follow."""
        output = self._run(_first(self.prompt, count), [count - 1])
        self.task.passes.forward += count / self.prompt.length
        layers = _ordinary_layers(output, count)
        return layers is not None and all(
            _close(alone, together[:, :, :count])
            for mine, whole in zip(layers, self.layers, strict=True)
            for alone, together in zip(mine, whole, strict=True)
        )

    def _same_through_cache(self, begin: int) -> bool:
        """Whether the last tokens, read after the cache of the others, give the known values."""
        rows = self.task.rows[self.example]
        begin = max(1, min(begin, max(self.rows)))
        (logits,) = self._read([Variant(self.prompt, rows)], begin)
        known = torch.tensor(self.task.target_values.values[self.example], dtype=torch.float64)
        wide = next(iter(logits.values())).dtype
        return all(_close(found, known, wide) for found in (self.full, self._values(rows, logits)))


def _lent(layers: Layers, count: int, examples: int, *, trimmed: bool) -> DynamicCache:
    """The cache of the first tokens for a batch, without a copy."""
    kinds = [Kept] * (len(layers) - 1) + [KeptOfLast if trimmed else Kept]
    cache = DynamicCache()
    cache.layers = [
        kind(*(kept[:, :, :count].expand(examples, -1, -1, -1) for kept in of_layer))
        for kind, of_layer in zip(kinds, layers, strict=True)
    ]
    return cache


def _ordinary_layers(output: Any, length: int) -> Layers | None:
    """Keys and values by layer, if the model's cache holds those of every token and nothing else."""
    cache = getattr(output, "past_key_values", None)
    if type(cache) is not DynamicCache or not cache.layers:
        return None
    layers: Layers = []
    for layer in cache.layers:
        # A layer with a sliding window is ordinary while the window is longer than the text.
        if not isinstance(layer, DynamicLayer) or type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer):
            return None
        if layer.keys is None or layer.values is None:
            return None
        keys, values = layer.keys, layer.values
        if keys.ndim != 4 or keys.shape[2] != length or values.shape[2] != length:
            return None
        layers.append((keys, values))
    return layers


def _positions_depend_on_length(config: Any) -> bool:
    """Whether rotary angles change with the length of the whole text, so that no prefix can be reused."""
    settings = [getattr(config, "rope_parameters", None), getattr(config, "rope_scaling", None)]
    for one in settings:
        if isinstance(one, Mapping):
            settings.extend(one.values())
            if one.get("rope_type", one.get("type")) in ("dynamic", "longrope"):
                return True
    return False


def _close(ours: Tensor, theirs: Tensor, dtype: torch.dtype | None = None) -> bool:
    """Equal up to rounding."""
    tolerance = torch.finfo(dtype or ours.dtype).eps ** 0.5
    return bool(((ours - theirs).abs() <= tolerance * (1 + theirs.abs())).all())


def _first(prompt: Prompt, count: int) -> dict[str, Any]:
    given = prompt.inputs.items()
    return {name: value[:, :count] if _one_per_token(value, prompt.length) else value for name, value in given}


def _one_per_token(value: Any, length: int) -> bool:
    return isinstance(value, Tensor) and value.ndim >= 2 and value.shape[1] == length


def _suffixes(prompts: Sequence[Prompt], begin: int) -> dict[str, Any]:
    """The inputs of several prompts from one place on, padded on the right; an attention mask covers the prefix too."""
    longest = max(prompt.length for prompt in prompts)
    batch: dict[str, Any] = {}
    for name, first in prompts[0].inputs.items():
        if not _one_per_token(first, prompts[0].length):
            batch[name] = first
            continue
        rows = [prompt.inputs[name] if "mask" in name else prompt.inputs[name][:, begin:] for prompt in prompts]
        missing = [longest - prompt.length for prompt in prompts]
        batch[name] = torch.cat(
            [F.pad(row, (*[0, 0] * (row.ndim - 2), 0, less)) for row, less in zip(rows, missing, strict=True)]
        )
    return batch


def _blocks(variants: Sequence[Variant], begins: Sequence[int | None]) -> Iterator[list[int]]:
    """Indices of variants that run together, ordered by where they begin; those that need no run come first."""
    unread = [i for i, begin in enumerate(begins) if begin is None]
    if unread:
        yield unread
    places = {i: begin for i, begin in enumerate(begins) if begin is not None}
    waiting = sorted(places, key=lambda i: places[i])
    while waiting:
        begin = places[waiting[0]]
        longest, count = 0, 0
        for i in waiting[:VARIANTS_AT_ONCE]:
            longest = max(longest, variants[i].prompt.length - begin)
            if count and (count + 1) * longest > TOKENS_AT_ONCE:
                break
            count += 1
        yield waiting[:count]
        waiting = waiting[count:]
