"""Maskers: how absent features are hidden from the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, final
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from apportion.core import ApportionError, Feature
from apportion.models import Head
from apportion.models.inputs import Prompt, tokenizer_of
from apportion.relevance import token_embedding
from apportion.task import AttributionTask, Variant

#: The feature of a token that is inserted because no other is left.
_STANDING_IN = Feature(label="", template=True)

Token = Literal["auto", "mask", "unk", "pad", "eos"]
TOKENS: tuple[Token, ...] = ("mask", "unk", "pad", "eos")


class Masker(ABC):
    """A way to hide features from the model; a subclass implements `variant`."""

    #: The name in a result's options.
    name: str
    #: Whether a causal model reads the tokens before the first absent feature as in the whole prompt.
    keeps_prefix: bool = False

    @abstractmethod
    def variant(self, task: AttributionTask, example: int, present: Bool[Tensor, " features"]) -> Variant:
        """The changed input when only some features are present.

        Args:
            task: The task, with its prompts.
            example: The index of the prompt.
            present: For each feature of the prompt, over all its parts in turn, whether it is present.

        Raises:
            ApportionError: The masker does not fit the model or the prompt.
        """

    def resolved(self, task: AttributionTask) -> Masker:
        """The masker with its open choices made for this task's model and tokenizer."""
        return self


AnyMasker = str | Masker

MASKERS: dict[str, type[Masker]] = {}

M = TypeVar("M", bound=type[Masker])


def register_masker(name: str) -> Callable[[M], M]:
    """Make a masker usable by name, wherever a masker is named.

        @ap.register_masker("first-token")
        @dataclass(frozen=True)
        class FirstToken(ap.Masker):
            def variant(self, task, example, present): ...

    Args:
        name: In lower case with hyphens, as users write it.

    Raises:
        ApportionError: The name is taken by another class.
    """

    def add(cls: M) -> M:
        taken = MASKERS.get(name)
        if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ApportionError(f"the masker name {name!r} is taken by {taken.__name__}; choose another.")
        if not isinstance(getattr(cls, "name", None), property):
            cls.name = name
        MASKERS[name] = cls
        return cls

    return add


@register_masker("auto")
@final
@dataclass(frozen=True)
class Auto(Masker):
    """Replaces by the mask token if the tokenizer has one, else deletes."""

    def resolved(self, task: AttributionTask) -> Masker:
        """`Replace("mask")` or `Delete()`."""
        has_mask = getattr(tokenizer_of(task.head.processor), "mask_token_id", None) is not None
        of_ids = all(name.endswith("input_ids") for name in task.prompts[0].parts)
        return Replace("mask") if has_mask and of_ids else Delete()

    def variant(self, task: AttributionTask, example: int, present: Bool[Tensor, " features"]) -> Variant:
        """The variant of the masker that it resolves to."""
        return self.resolved(task).variant(task, example, present)


@register_masker("delete")
@final
@dataclass(frozen=True)
class Delete(Masker):
    """Removes absent tokens; later tokens move up.

    A target at a removed token is read at the last remaining token before it. If none remains, a token that begins
    (or ends, or pads) a text is inserted, since a model reads at least one.
    """

    keeps_prefix = True

    def variant(self, task: AttributionTask, example: int, present: Bool[Tensor, " features"]) -> Variant:
        """The prompt without its absent tokens, and the new rows of the targets."""
        prompt, rows = task.prompts[example], task.rows[example]
        inputs, parts = dict(prompt.inputs), dict(prompt.parts)
        read_part, left = _part_with_rows(task, prompt), list(range(prompt.before_tokens))
        for part, kept in _by_part(prompt, present).items():
            start = prompt.starts[part]
            if bool(kept.all()):
                left += range(start, start + len(kept))
                continue
            mine = rows if part == read_part else []
            first_read = min((row for of_target in mine for row in of_target), default=prompt.parts[part] - 1)
            filled = not bool(kept[: first_read + 1].any())
            columns = kept.nonzero().flatten()
            left += [-1] * filled + [start + column for column in columns.tolist()]
            if filled:
                columns = torch.cat([columns.new_zeros(1), columns])
            for name in _beside(prompt, part):
                inputs[name] = _cut(name, inputs[name], columns)
            if filled:
                inputs[part][:, 0] = _filler(task.head, part)
            parts[part] = len(columns)
            if part == read_part:
                before = kept.cumsum(0) - 1 + int(filled)
                rows = [tuple(int(before[row]) for row in of_target) for of_target in rows]
        features = tuple(_STANDING_IN if i < 0 else prompt.features[i] for i in left)
        return Variant(replace(prompt, inputs=inputs, features=features, parts=parts), rows, kept=tuple(left))


@register_masker("attention-mask")
@final
@dataclass(frozen=True)
class AttentionMask(Masker):
    """Keeps the places of absent tokens, but no token attends to them.

    A target at an absent token still reads that token's own embedding, which an attention mask cannot hide.
    """

    keeps_prefix = True

    def variant(self, task: AttributionTask, example: int, present: Bool[Tensor, " features"]) -> Variant:
        """The prompt with 0 in the attention mask where a feature is absent."""
        prompt, head = task.prompts[example], task.head
        inputs = dict(prompt.inputs)
        read_part = _part_with_rows(task, prompt)
        for part, kept in _by_part(prompt, present).items():
            if bool(kept.all()):
                continue
            name = f"{part.removesuffix('input_ids')}attention_mask" if part.endswith("input_ids") else "attention_mask"
            _check_attention(head, name)
            last = _first_row(task, example) if part == read_part and head.kind.writes else None
            if not bool((kept if last is None else kept[: last + 1]).any()):
                raise ApportionError(
                    "with the attention mask 0 at every token that the target can attend to, the output is undefined; "
                    "use masker='delete' or 'replace', or begin the prompt with a token that is always present."
                )
            ones = torch.ones(1, len(kept), dtype=torch.long, device=kept.device)
            mask = inputs.get(name, ones)
            if mask.ndim != 2:
                raise ApportionError(
                    f"{name!r} has {mask.ndim} axes; the masker 'attention-mask' needs one entry per token."
                )
            inputs[name] = mask * kept.to(mask)
        return Variant(replace(prompt, inputs=inputs), task.rows[example])


@register_masker("replace")
@final
@dataclass(frozen=True)
class Replace(Masker):
    """Replaces absent tokens by a neutral one.

    Args:
        token: `"mask"`, `"unk"`, `"pad"` or `"eos"`; an id; or `"auto"`, the first of these that the tokenizer has.
    """

    token: Token | int = "auto"
    keeps_prefix = True

    def __post_init__(self) -> None:
        if not isinstance(self.token, int) and self.token not in ("auto", *TOKENS):
            raise ApportionError(
                f"token={self.token!r} is not known; use 'auto', {', '.join(map(repr, TOKENS))}, or a token id."
            )

    @property
    def name(self) -> str:  # type: ignore[override]
        """`replace`, with the token if one was chosen."""
        return "replace" if self.token == "auto" else f"replace({self.token})"

    def resolved(self, task: AttributionTask) -> Masker:
        """With the token that the tokenizer has."""
        if self.token != "auto":
            return self
        tokenizer = tokenizer_of(task.head.processor)
        found = next((token for token in TOKENS if getattr(tokenizer, f"{token}_token_id", None) is not None), None)
        if found is None:
            raise ApportionError(
                "the masker 'replace' found no mask, unk, pad or eos token in the tokenizer; "
                "name an id, such as 'replace(0)', or use 'delete'."
            )
        return Replace(found)

    def variant(self, task: AttributionTask, example: int, present: Bool[Tensor, " features"]) -> Variant:
        """The prompt with its absent tokens replaced."""
        prompt = task.prompts[example]
        inputs, token = dict(prompt.inputs), self._id(task)
        for part, kept in _by_part(prompt, present).items():
            if bool(kept.all()):
                continue
            if inputs[part].is_floating_point():
                raise ApportionError(
                    f"the prompt is given as embeddings ({part!r}), not tokens; use masker='zero' or 'delete'."
                )
            inputs[part] = torch.where(kept, inputs[part], token)
        return Variant(replace(prompt, inputs=inputs), task.rows[example])

    def _id(self, task: AttributionTask) -> int:
        chosen = self.resolved(task)
        assert isinstance(chosen, Replace)
        if isinstance(chosen.token, int):
            rows = _rows_of_embedding(task.head)
            if not 0 <= chosen.token < rows:
                raise ApportionError(
                    f"token id {chosen.token} is out of the vocabulary: the model knows 0 to {rows - 1}."
                )
            return chosen.token
        found = getattr(tokenizer_of(task.head.processor), f"{chosen.token}_token_id", None)
        if found is None:
            raise ApportionError(
                f"the tokenizer has no {chosen.token} token to replace by; use 'replace' (any it has), an id such as "
                "'replace(0)', or 'delete'."
            )
        return int(found)


@register_masker("zero")
@final
@dataclass(frozen=True)
class ZeroEmbedding(Masker):
    """Gives absent tokens an embedding of zeros."""

    keeps_prefix = True

    def variant(self, task: AttributionTask, example: int, present: Bool[Tensor, " features"]) -> Variant:
        """The prompt as embeddings, with zeros for absent tokens."""
        return _embedded_variant(task, example, present, mean=False)


@register_masker("mean")
@final
@dataclass(frozen=True)
class MeanEmbedding(Masker):
    """Gives absent tokens the mean embedding of the vocabulary (of the prompt, if it is given as embeddings)."""

    keeps_prefix = True

    def variant(self, task: AttributionTask, example: int, present: Bool[Tensor, " features"]) -> Variant:
        """The prompt as embeddings, with the mean for absent tokens."""
        return _embedded_variant(task, example, present, mean=True)


def _by_part(prompt: Prompt, present: Tensor) -> dict[str, Tensor]:
    """For each input of tokens, which of its tokens are present; rejects absent parts of images."""
    if not bool(present[: prompt.before_tokens].all()):
        raise ApportionError(
            "a part of an image is absent, and this masker is for text; add one for images, such as 'delete+mean'."
        )
    pieces = present[prompt.before_tokens :].split(list(prompt.parts.values()))
    return {part: kept.to(prompt.inputs[part].device) for part, kept in zip(prompt.parts, pieces, strict=True)}


def _part_with_rows(task: AttributionTask, prompt: Prompt) -> str:
    """The input whose tokens the targets' rows refer to."""
    return task.head.kind.rows_in(tuple(prompt.parts))


def _first_row(task: AttributionTask, example: int) -> int | None:
    return min((row for rows in task.rows[example] for row in rows), default=None)


def _beside(prompt: Prompt, part: str) -> list[str]:
    """The inputs that have one entry per token of this part, itself included."""
    decoder, length = part.startswith("decoder"), prompt.parts[part]
    return [
        name
        for name, value in prompt.inputs.items()
        if isinstance(value, Tensor)
        and name.startswith("decoder") == decoder
        and name.startswith("other_") == part.startswith("other_")
        and value.ndim >= 2
        and (value.shape[1] == length or name == part or _is_square(value, length))
    ]


def _is_square(value: Tensor, length: int) -> bool:
    return value.ndim > 2 and value.shape[-1] == value.shape[-2] == length


def _cut(name: str, value: Tensor, columns: Tensor) -> Tensor:
    if value.shape[1] != 1 and name.endswith("position_ids"):
        return value[:, : len(columns)]  # positions close up
    if name.endswith("mask") and value.ndim > 2:
        raise ApportionError(
            f"{name!r} has {value.ndim} axes, so no token can be deleted from it; use 'replace' instead."
        )
    return value[:, columns]


def _filler(head: Head, part: str) -> Any:
    """The token (or its embedding) to insert if no other is left."""
    tokenizer, config = tokenizer_of(head.processor), getattr(head.model, "config", None)
    for name in ("bos_token_id", "cls_token_id", "eos_token_id", "pad_token_id"):
        for source in (tokenizer, config, getattr(config, "text_config", None)):
            found = getattr(source, name, None)
            if isinstance(found, int) and 0 <= found < _rows_of_embedding(head):
                return found if part.endswith("input_ids") else _embedding_of(head, found)
    raise ApportionError(
        "deleting leaves no token for the target to be read at, and neither tokenizer nor configuration names one that "
        "begins or ends a text; use another masker, such as 'zero' or 'replace(0)'."
    )


def layers_without_attention(model: nn.Module) -> list[str]:
    """The kinds of layers that mix tokens in other ways than attention, according to the model's configuration."""
    config = getattr(model, "config", None)
    nested = [part for name in ("text_config", "vision_config") if (part := getattr(config, name, None)) is not None]
    configs = nested if nested and getattr(config, "num_attention_heads", None) is None else [config, *nested]
    kinds: set[str] = set()
    for one in configs:
        layers = getattr(one, "layer_types", None) or getattr(one, "layers_block_type", None) or ()
        others = {str(kind) for kind in layers if "attention" not in str(kind) or "linear" in str(kind)}
        kinds |= others or ({"another kind"} if getattr(one, "num_attention_heads", None) is None else set())
    return sorted(kinds)


def _check_attention(head: Head, name: str) -> None:
    kinds = layers_without_attention(head.model)
    if head.accepts(name) and not kinds:
        return
    why = f"its layers are of {', '.join(kinds)}" if kinds else f"its forward takes no {name!r}"
    raise ApportionError(
        f"{type(head.model).__name__} does not obey an attention mask ({why}); use masker='delete' or 'replace'."
    )


def _embedding(head: Head) -> nn.Module:
    module = token_embedding(head.model)
    if module is None:
        raise ApportionError(
            f"the token embedding of {type(head.model).__name__} is not known; use masker='delete' or 'replace'."
        )
    return module


def _embedding_of(head: Head, token: int) -> Float[Tensor, " d_model"]:
    module = _embedding(head)
    with torch.no_grad():
        found: Tensor = module(torch.tensor([[token]], device=next(module.parameters()).device))
    return found[0, 0]


def _rows_of_embedding(head: Head) -> int:
    weight = getattr(token_embedding(head.model), "weight", None)
    return weight.shape[0] if isinstance(weight, Tensor) else 2**31


#: For each task, so that the embeddings of the tokens and their mean are computed once, not once per variant.
_EMBEDDED: WeakKeyDictionary[AttributionTask, dict[tuple[int, str], Tensor]] = WeakKeyDictionary()


def _embedded_variant(task: AttributionTask, example: int, present: Tensor, *, mean: bool) -> Variant:
    prompt, head = task.prompts[example], task.head
    inputs, parts = dict(prompt.inputs), {}
    for part, kept in _by_part(prompt, present).items():
        embeds = part.replace("input_ids", "inputs_embeds")
        if part != embeds and bool(kept.all()) and part != next(iter(prompt.parts)):
            parts[part] = prompt.parts[part]
            continue
        if not head.accepts(embeds):
            raise ApportionError(
                f"{type(head.model).__name__} takes no {embeds!r}, which the maskers 'zero' and 'mean' need; "
                "use 'delete' or 'replace'."
            )
        values, absent = _embeddings(task, example, part, mean=mean)
        inputs = {embeds if name == part else name: value for name, value in inputs.items()}
        inputs[embeds] = torch.where(kept[:, None], values, absent)
        parts[embeds] = prompt.parts[part]
    return Variant(replace(prompt, inputs=inputs, parts=parts), task.rows[example])


def _embeddings(
    task: AttributionTask, example: int, part: str, *, mean: bool
) -> tuple[Float[Tensor, "1 tokens d_model"], Float[Tensor, " d_model"]]:
    """The embeddings of a part's tokens, and that of an absent token."""
    known = _EMBEDDED.setdefault(task, {})
    given = task.prompts[example].inputs[part]
    with torch.no_grad():
        if (example, part) not in known:
            known[example, part] = given.detach() if given.is_floating_point() else _embedding(task.head)(given)
        values = known[example, part]
        if not mean:
            return values, values.new_zeros(values.shape[-1])
        key = (example, "mean") if given.is_floating_point() else (-1, "mean")
        if key not in known:
            known[key] = values[0].mean(0) if given.is_floating_point() else _mean_embedding(task.head, given)
        return values, known[key]


def _mean_embedding(head: Head, ids: Tensor, *, at_once: int = 8192) -> Float[Tensor, " d_model"]:
    """The mean over the vocabulary of the embedding module's outputs, which some models scale."""
    module, rows = _embedding(head), _rows_of_embedding(head)
    total = sum(
        module(torch.arange(first, min(first + at_once, rows), device=ids.device)[None])[0].double().sum(0)
        for first in range(0, rows, at_once)
    )
    assert isinstance(total, Tensor)
    return (total / rows).to(module(ids[:, :1]))
