"""Where a model's outputs stand: which tensor, which row of it, and what its columns are called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from apportion.core import ApportionError
from apportion.models._kind import Kind
from apportion.models.inputs import Prompt, check_text, features_of_ids, token_label, tokenizer_of
from apportion.targets import AnyTarget, Reading, Span, Target, read_outputs, read_span

_SHOWN = 20


@dataclass(frozen=True)
class Head:
    """What is known of a model's outputs, apart from any input.

    Args:
        model: The model.
        kind: What it predicts.
        processor: Its tokenizer or processor, if there is one.
    """

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
        """The tensor of outputs.

        Raises:
            ApportionError: The model returned no `logits`.
        """
        logits = getattr(output, "logits", None)
        if isinstance(logits, Tensor):
            return logits
        raise ApportionError(
            f"{type(self.model).__name__} returns no logits, so it has no token or class to explain; "
            "give a function of its output as the target."
        )

    def prepare(self, prompt: Prompt, targets: Sequence[AnyTarget]) -> Prompt:
        """The prompt with what the target adds to it: a span, or the start of the decoder's sequence."""
        span = next((t for t in targets if isinstance(t, Span)), None)
        prompt = self.started(prompt)
        if span is None:
            return prompt
        if self.kind not in ("causal", "seq2seq"):
            raise ApportionError(
                f"a Span is a continuation, which {type(self.model).__name__} does not write; name a token or class."
            )
        name = "decoder_input_ids" if self.kind == "seq2seq" else "input_ids"
        if name not in prompt.inputs:
            raise ApportionError("a Span needs a prompt of token ids to continue, not embeddings.")
        # The last token of a span is predicted but predicts nothing, so the model need not read it.
        return self._extended(prompt, name, self.span_ids(span)[:-1])

    def started(self, prompt: Prompt) -> Prompt:
        """The prompt with the start of the decoder's sequence, where the model has a decoder of its own."""
        if self.kind == "seq2seq" and "decoder_input_ids" not in prompt.inputs:
            return self._with_decoder(prompt)
        return prompt

    def continued(self, prompt: Prompt, ids: Sequence[int]) -> Prompt:
        """The prompt with tokens behind it that the model wrote, or might have; the prompt is started."""
        if not ids:
            return prompt
        return self._extended(prompt, "decoder_input_ids" if self.kind == "seq2seq" else "input_ids", ids)

    def span_ids(self, span: Span) -> list[int]:
        """The token ids of a span."""
        if not isinstance(span.text, str):
            self._check_ids(span.text)
            return list(span.text)
        tokenizer = self._tokenizer("a span of text")
        check_text(span.text, "the span")
        return list(tokenizer.encode(span.text, add_special_tokens=False))

    def positions(self, prompt: Prompt, targets: Sequence[AnyTarget]) -> list[tuple[int, ...]]:
        """For each target the rows of the output that it reads; empty where the output has one row."""
        return [self._rows(prompt, target) for target in targets]

    def reading(self, target: Target | Span, rows: tuple[int, ...], logits: Tensor, example: int) -> Reading:
        """A target as a function of the tensor of outputs, for one example of a batch.

        Args:
            target: What is asked.
            rows: The rows that it reads, as indices into `logits`.
            logits: The model's outputs, to find the most likely.
            example: Index in the batch.
        """
        if isinstance(target, Span):
            ids = self.span_ids(target)
            label = target.text if isinstance(target.text, str) else "".join(self.label(i) for i in ids)
            return read_span(lambda tensor: tensor[example][list(rows)], ids, f'"{label}"', target.unit)

        def place(tensor: Tensor) -> Tensor:
            return tensor[example][rows]

        row = place(logits)
        output = int(row.argmax()) if target.output is None else self.index(target.output, row.numel())
        contrast = [self.index(c, row.numel()) for c in target.contrast]
        if output in contrast:
            raise ApportionError(f"target and contrast are both {self.shown(output)}; their difference is always 0.")
        names = [self.shown(c) for c in contrast]
        return read_outputs(place, output, contrast, target.unit, self.shown(output), names)

    def prediction(self, row: Tensor, k: int = 5) -> tuple[tuple[str, float], ...]:
        """The most likely outputs of one row, with their probabilities."""
        best = row.float().softmax(-1).topk(min(k, row.numel()))
        return tuple((self.label(i), p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True))

    def label(self, index: int) -> str:
        """Name of an output: a token's text or a class."""
        if self._has_classes():
            return str(self._classes().get(index, index))
        return token_label(index, tokenizer_of(self.processor))

    def shown(self, index: int) -> str:
        """Name of an output as it stands in a sentence: tokens in quotation marks."""
        return self.label(index) if self._has_classes() or self.processor is None else f'"{self.label(index)}"'

    def index(self, output: str | int, size: int) -> int:
        """The column of an output given by name or id.

        Raises:
            ApportionError: There is no such class, or the text is not one token.
        """
        if isinstance(output, int):
            if not 0 <= output < size:
                what = "classes" if self._has_classes() else "tokens"
                raise ApportionError(
                    f"target id {output} is out of range: the model has {size} {what} (0 to {size - 1})."
                )
            return output
        if self._has_classes():
            return self._class_index(output)
        tokenizer = self._tokenizer(f"the target {output!r}")
        check_text(output, "the target")
        ids = list(tokenizer.encode(output, add_special_tokens=False))
        if len(ids) > 1 and (tokenizer.convert_ids_to_tokens(ids[0]) or "").strip("▁") == "":
            # SentencePiece spells a leading space as a token of its own unless it begins the text.
            ids = list(tokenizer.encode(output.lstrip(" "), add_special_tokens=False))
        if len(ids) != 1:
            pieces = " + ".join(repr(self.label(i)) for i in ids) or "nothing"
            remedy = "choose one of them" + (
                f", or explain the whole text: target=Span({output!r})." if self.kind in ("causal", "seq2seq") else "."
            )
            raise ApportionError(f"the target {output!r} is {len(ids)} tokens for this tokenizer: {pieces}; {remedy}")
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

    def _has_classes(self) -> bool:
        return self.kind in ("sequence-classification", "token-classification", "image-classification", "other")

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

    def _with_decoder(self, prompt: Prompt) -> Prompt:
        start = getattr(self.model.config, "decoder_start_token_id", None)
        if start is None:
            start = getattr(self.model.config, "bos_token_id", None)
        if start is None:
            raise ApportionError(
                "the model's configuration has no decoder_start_token_id; "
                "give the decoder's tokens as {'decoder_input_ids': …}."
            )
        first = prompt.before_tokens
        source = prompt.features[:first] + tuple(replace(f, part="source") for f in prompt.features[first:])
        started = replace(
            prompt,
            inputs={**prompt.inputs, "decoder_input_ids": torch.empty(1, 0, dtype=torch.long, device=self._device())},
            features=source,
            parts={**prompt.parts, "decoder_input_ids": 0},
        )
        return self._extended(started, "decoder_input_ids", [start])

    def _extended(self, prompt: Prompt, name: str, ids: Sequence[int]) -> Prompt:
        """The prompt with tokens appended to its last input."""
        before = prompt.inputs[name]
        added = torch.tensor([list(ids)], dtype=before.dtype, device=before.device)
        inputs = {**prompt.inputs, name: torch.cat([before, added], 1)}
        for other, fill in (("attention_mask", 1), ("token_type_ids", 0), ("mm_token_type_ids", 0)):
            if name == "input_ids" and other in inputs:
                inputs[other] = torch.cat([inputs[other], torch.full_like(added, fill).to(inputs[other])], 1)
        part = "decoder" if name == "decoder_input_ids" else "answer"
        new = features_of_ids([*before[0].tolist(), *ids], tokenizer_of(self.processor), part=part)[before.shape[1] :]
        parts = {**prompt.parts, name: prompt.parts[name] + len(ids)}
        return replace(prompt, inputs=inputs, features=(*prompt.features, *new), parts=parts)

    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _rows(self, prompt: Prompt, target: AnyTarget) -> tuple[int, ...]:
        if not isinstance(target, Target | Span):
            return ()
        length = prompt.parts["decoder_input_ids"] if self.kind == "seq2seq" else prompt.length
        if isinstance(target, Span):
            count = len(self.span_ids(target))
            return tuple(range(length - count, length))
        if self.kind in ("sequence-classification", "image-classification", "dual-encoder", "other"):
            if target.position is not None:
                what = "image" if self.kind == "image-classification" else "text"
                name = type(self.model).__name__
                raise ApportionError(f"position={target.position!r} was given, but {name} has one output per {what}.")
            return ()
        if target.position is not None:
            return (self._position(prompt, target.position, length),)
        if self.kind in ("causal", "seq2seq"):
            return (length - 1,)
        if self.kind == "masked":
            return (self._masked(prompt),)
        shown = " ".join(f"{i}:{f.label.strip()}" for i, f in enumerate(prompt.features[: 3 * _SHOWN]))
        raise ApportionError(
            f"a classifier of tokens has an output per token; say which: position=0 or a word. Tokens: {shown}"
        )

    def _position(self, prompt: Prompt, position: int | str, length: int) -> int:
        if isinstance(position, str):
            matching = [
                i
                for i, f in enumerate(prompt.features[prompt.before_tokens :])
                if f.label.strip() == position.strip() and not f.template
            ]
            if len(matching) != 1:
                raise ApportionError(f"position={position!r} matches {len(matching)} tokens; give the index of one.")
            return matching[0]
        place = position - prompt.padding[0] if position >= 0 else length + position
        if not 0 <= place < length:
            raise ApportionError(f"position={position} is outside the text, which has {length} tokens.")
        return place

    def _masked(self, prompt: Prompt) -> int:
        tokenizer = tokenizer_of(self.processor)
        mask = getattr(tokenizer, "mask_token_id", None)
        if mask is None:
            raise ApportionError(
                "the place to explain is not known: give position=, or a tokenizer that has a mask token."
            )
        found = [i for i, token in enumerate(prompt.ids) if token == mask]
        if len(found) != 1:
            raise ApportionError(
                f"the text has {len(found)} {tokenizer.mask_token} tokens"
                + (
                    f", at {found}; choose one with position=."
                    if found
                    else "; put one where the model shall predict, or give position=."
                )
            )
        return found[0]


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
