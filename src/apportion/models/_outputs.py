"""A model's outputs: which tensor they are, its rows, and the names of its columns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from apportion.core import ApportionError
from apportion.models.inputs import Prompt, check_text, extended, token_label, tokenizer_of
from apportion.models.kinds import Kind
from apportion.targets import AnyTarget

_SHOWN = 20


@dataclass(frozen=True)
class Head:
    """A model with its kind and its tokenizer or processor, which describe its outputs."""

    model: nn.Module
    kind: Kind
    processor: Any

    def accepts(self, name: str) -> bool:
        """Whether the model's forward has an argument of this name."""
        return name in self._arguments

    @cached_property
    def _arguments(self) -> frozenset[str]:
        return frozenset(inspect.signature(self.model.forward).parameters)

    def logits(self, output: Any) -> Tensor:
        """The tensor of outputs; rejects a model that returns no `logits`."""
        logits = getattr(output, "logits", None)
        if isinstance(logits, Tensor):
            return logits
        raise ApportionError(
            f"{type(self.model).__name__} returns no logits, so it has no token or class to explain; "
            "give a function of its output as the target."
        )

    def prepare(self, prompt: Prompt, targets: Sequence[AnyTarget]) -> Prompt:
        """The prompt with the tokens that targets add, such as a span, and with the start of a decoder's sequence."""
        prompt = self.started(prompt)
        if not any(target.extends_prompt for target in targets):
            return prompt
        if not self.kind.writes:
            raise ApportionError(
                f"a Span is a continuation, which {type(self.model).__name__} does not write; name a token or class."
            )
        if self.kind.continued_input not in prompt.inputs:
            raise ApportionError("a Span needs a prompt of token ids to continue, not embeddings.")
        return self.continued(prompt, [token for target in targets for token in target.extension(self)])

    def started(self, prompt: Prompt) -> Prompt:
        """The prompt with the start of a decoder's sequence, if the model needs one."""
        return self.kind.started(prompt, self.model, self.processor)

    def continued(self, prompt: Prompt, ids: Sequence[int]) -> Prompt:
        """A started prompt with further tokens, as if the model had written them."""
        return extended(prompt, self.kind.continued_input, ids, self.processor) if ids else prompt

    def token_ids(self, text: str | tuple[int, ...]) -> list[int]:
        """The token ids of a continuation."""
        if not isinstance(text, str):
            self._check_ids(text)
            return list(text)
        tokenizer = self._tokenizer("a span of text")
        check_text(text, "the span")
        return list(tokenizer.encode(text, add_special_tokens=False))

    def length(self, prompt: Prompt) -> int:
        """How many rows the output has, if it has one for each token."""
        return prompt.parts[self.kind.rows_in(tuple(prompt.parts))] if prompt.parts else prompt.length

    def row(self, prompt: Prompt, position: int | str | None) -> tuple[int, ...]:
        """The row of the output that is read by default or at a position; empty if the output has one row.

        Raises:
            ApportionError: There is no such position, or one must be given.
        """
        if not self.kind.per_token:
            if position is not None:
                what = "image" if self.kind.of_images else "text"
                raise ApportionError(
                    f"position={position!r} was given, but {type(self.model).__name__} has one output per {what}."
                )
            return ()
        length = self.length(prompt)
        if position is not None:
            return (self._position(prompt, position, length),)
        return (self.kind.row(prompt, length, tokenizer_of(self.processor)),)

    def prediction(self, row: Tensor, k: int = 5) -> tuple[tuple[str, float], ...]:
        """The most likely outputs of one row, with their probabilities."""
        best = row.float().softmax(-1).topk(min(k, row.numel()))
        return tuple((self.label(i), p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True))

    def label(self, index: int) -> str:
        """The name of an output: a token's text or a class."""
        if self.kind.has_classes:
            return str(self._classes().get(index, index))
        return token_label(index, tokenizer_of(self.processor))

    def shown(self, index: int) -> str:
        """The name of an output for use in a sentence: tokens in quotation marks."""
        return self.label(index) if self.kind.has_classes or self.processor is None else f'"{self.label(index)}"'

    def index(self, output: str | int, size: int) -> int:
        """The column of an output given by name or id.

        Raises:
            ApportionError: There is no such class, or the text is not one token.
        """
        if isinstance(output, int):
            if not 0 <= output < size:
                what = "classes" if self.kind.has_classes else "tokens"
                raise ApportionError(f"target id {output} is out of range: the {what} are 0 to {size - 1}.")
            return output
        if self.kind.has_classes:
            return self._class_index(output)
        tokenizer = self._tokenizer(f"the target {output!r}")
        check_text(output, "the target")
        ids = list(tokenizer.encode(output, add_special_tokens=False))
        if len(ids) > 1 and (tokenizer.convert_ids_to_tokens(ids[0]) or "").strip("▁") == "":
            # SentencePiece makes a leading space a separate token unless it begins the text.
            ids = list(tokenizer.encode(output.lstrip(" "), add_special_tokens=False))
        if len(ids) != 1:
            pieces = " + ".join(repr(self.label(i)) for i in ids) or "nothing"
            whole = f", or explain the whole text: target=Span({output!r})" if self.kind.writes else ""
            raise ApportionError(
                f"the target {output!r} is {len(ids)} tokens for this tokenizer: {pieces}; choose one of them{whole}."
            )
        if ids[0] == getattr(tokenizer, "unk_token_id", None) and output != tokenizer.unk_token:
            raise ApportionError(f"the target {output!r} is not in the tokenizer's vocabulary; choose another word.")
        return ids[0]

    def _class_index(self, name: str) -> int:
        classes = self._classes()
        exact = [i for i, label in classes.items() if label == name]
        same = exact or [i for i, label in classes.items() if str(label).lower() == name.lower()]
        if len(same) == 1:
            return same[0]
        shown = ", ".join(map(str, list(classes.values())[:_SHOWN])) + (", …" if len(classes) > _SHOWN else "")
        raise ApportionError(f"there is no class {name!r}; the model's classes are {shown}.")

    def _classes(self) -> dict[int, str]:
        return getattr(getattr(self.model, "config", None), "id2label", None) or {}

    def _tokenizer(self, what: str) -> Any:
        tokenizer = tokenizer_of(self.processor)
        if tokenizer is None:
            raise ApportionError(f"{what} needs a tokenizer: Explainer(model, tokenizer), or give token ids.")
        return tokenizer

    def _check_ids(self, ids: Sequence[int]) -> None:
        size = getattr(getattr(self.model, "config", None), "vocab_size", None)
        for token in ids:
            if size is not None and not 0 <= token < size:
                raise ApportionError(f"token id {token} is out of the vocabulary (0 to {size - 1}).")

    def _position(self, prompt: Prompt, position: int | str, length: int) -> int:
        if isinstance(position, str):
            own = [(i, f) for i, f in enumerate(prompt.features[prompt.before_tokens :]) if not f.template]
            matching = [i for i, f in own if f.label.strip() == position.strip()]
            if len(matching) != 1:
                raise ApportionError(f"position={position!r} matches {len(matching)} tokens; give the index of one.")
            return matching[0]
        place = position - prompt.padding[0] if position >= 0 else length + position
        if not 0 <= place < length:
            raise ApportionError(f"position={position} is outside the text, which has {length} tokens.")
        return place


def detached(output: Any) -> tuple[Any, list[Tensor], list[Tensor]]:
    """A copy of a model's output whose tensors are leaves, with the originals and the leaves."""
    originals: list[Tensor] = []
    leaves: list[Tensor] = []

    def leaf(value: Tensor) -> Tensor:
        if value.grad_fn is None:
            return value
        originals.append(value)
        leaves.append(value.detach().requires_grad_(True))
        return leaves[-1]

    return _mapped(output, leaf), originals, leaves


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):  # transformers' ModelOutput is one, and its fields follow its items
        items = {key: _mapped(item, function) for key, item in value.items()}
        return type(value)(**items) if type(value) is not dict else items
    if type(value) in (tuple, list):
        return type(value)(_mapped(item, function) for item in value)
    return value
