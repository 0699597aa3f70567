"""A prompt as the model's inputs and the features that get the shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Literal

import torch
from jinja2 import TemplateError
from torch import Tensor
from transformers import FeatureExtractionMixin
from transformers.image_processing_base import ImageProcessingMixin

from apportion.core import ApportionError, Feature
from apportion.models.inputs._continuous_input import ContinuousInput
from apportion.relevance import NAME as VISUAL_TOKENS

#: Inputs that hold images or sound rather than tokens.
CONTINUOUS = ("pixel_values", "other_pixel_values", "pixel_values_videos", "input_features")

#: Inputs of which a model needs at least one, each with an axis of examples in front.
MAIN_INPUTS = ("input_ids", "inputs_embeds", *CONTINUOUS)

#: The prefix of the inputs of a pair's second side.
OTHER = "other_"

#: The forms of prompts: `texts` and `images` are pairs, `caption` is a pair of an image and a text, `mixed` is a text
#: with images in one prompt; `tensors` are the model's own inputs, `own` is an object with `as_prompt`, and `list` a
#: list of prompts.
Form = Literal["text", "chat", "ids", "tensors", "image", "texts", "images", "caption", "mixed", "sound", "own", "list"]

Sides = Literal["texts", "images"]


@dataclass(frozen=True)
class Prompt:
    """One example, without padding.

    Args:
        inputs: The model's keyword arguments, with a batch of one.
        features: Those of the continuous inputs, then the tokens of each input in turn, such as source and decoder.
        parts: For each input of tokens, in the features' order, its number of features.
        padding: The left and right padding in the user's tensors, so that the result has the same length.
        continuous_inputs: The continuous inputs that are divided into features, such as an image.
        form: What it was made from.
    """

    inputs: Mapping[str, Any]
    features: tuple[Feature, ...]
    parts: Mapping[str, int]
    padding: tuple[int, int] = (0, 0)
    continuous_inputs: tuple[ContinuousInput, ...] = ()
    form: Form = "tensors"

    def to(self, device: torch.device) -> Prompt:
        """The prompt with its inputs on a device."""
        moved = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in self.inputs.items()}
        return replace(self, inputs=moved)

    @property
    def ids(self) -> list[int]:
        """The token ids of the first input."""
        return self.inputs[next(iter(self.parts))][0].tolist()

    @property
    def starts(self) -> dict[str, int]:
        """For each input of tokens, the index of its first feature."""
        return dict(zip(self.parts, accumulate(self.parts.values(), initial=self.before_tokens), strict=False))

    @property
    def before_tokens(self) -> int:
        """The number of features before those of the tokens: those of the continuous inputs."""
        return sum(continuous.count for continuous in self.continuous_inputs)

    @property
    def at_visual_tokens(self) -> bool:
        """Whether relevance ends at visual tokens."""
        return any(continuous.name == VISUAL_TOKENS for continuous in self.continuous_inputs)

    @property
    def has_pixels(self) -> bool:
        """Whether relevance reaches an image's pixels."""
        return any(one.line.endswith("image") and one.name != VISUAL_TOKENS for one in self.continuous_inputs)

    @property
    def sides(self) -> Sides | None:
        """What a pair of two texts or two images consists of; None for any other prompt."""
        return "texts" if f"{OTHER}input_ids" in self.inputs else "images" if CONTINUOUS[1] in self.inputs else None

    @property
    def length(self) -> int:
        """The number of tokens of the first input, or of patches if there are no tokens."""
        if self.parts:
            return self.parts[next(iter(self.parts))]
        rows, columns = self.continuous_inputs[0].patches or (1, self.continuous_inputs[0].count)
        return rows * columns


def prompt_of_tokens(form: str, given: Any, processor: Any) -> Prompt:
    """The prompt of a given `"text"`, `"chat"`, `"ids"` or `"tensors"`; the processor has or is a tokenizer.

    Raises:
        ApportionError: It is empty, has no main input, or is text without a tokenizer.
    """
    if form == "text":
        return prompt_of_text(given, processor)
    if form == "chat":
        return _from_messages(list(given), processor)
    if form == "ids":
        ids = torch.as_tensor(given)
        given = {"input_ids": ids if ids.ndim == 2 else ids[None]}
    return _from_tensors(given, processor)


def prompt_of_text(text: str, processor: Any, *, add_special_tokens: bool = True, length: int | None = None) -> Prompt:
    """The prompt of a text, tokenised once.

    Args:
        text: The text, which must not be empty.
        processor: A tokenizer, or a processor with one.
        add_special_tokens: Whether the tokenizer adds special tokens.
        length: The length to pad to, for a model that reads padding without a mask.

    Raises:
        ApportionError: It is empty or longer than `length`, or there is no tokenizer.
    """
    tokenizer = tokenizer_of(processor)
    if tokenizer is None:
        raise ApportionError(
            "a text was given but no tokenizer: Explainer(model, tokenizer), or give token ids instead of text."
        )
    check_text(text, "the prompt")
    fast = bool(getattr(tokenizer, "is_fast", False))
    encoded = tokenizer(
        text,
        return_tensors="pt",
        add_special_tokens=add_special_tokens,
        return_offsets_mapping=fast,
        return_special_tokens_mask=True,
        **({} if length is None else {"padding": "max_length", "max_length": length}),
    )
    if length is not None:
        encoded.pop("attention_mask", None)
        if encoded["input_ids"].shape[1] > length:
            raise ApportionError(
                f"the text has {encoded['input_ids'].shape[1]} tokens; the model reads {length}. Shorten it."
            )
    offsets = encoded.pop("offset_mapping")[0].tolist() if fast else None
    special = encoded.pop("special_tokens_mask")[0].tolist()
    inputs = dict(encoded)
    ids = inputs["input_ids"][0].long()
    inputs["input_ids"] = ids[None]
    if not text.strip() or all(special):
        raise ApportionError(f"the prompt {text!r} is empty, so there is nothing to divide the prediction among.")
    if offsets is None:
        features = features_of_ids(ids.tolist(), tokenizer)
    else:
        features = _features_of_text(text, ids.tolist(), offsets, tokenizer)
    features = tuple(
        replace(f, template=bool(s), label=_token_text(int(i), tokenizer) if s else f.label)
        for f, s, i in zip(features, special, ids.tolist(), strict=True)
    )
    return Prompt(inputs, features, {"input_ids": len(features)})


def _features_of_text(
    text: str, ids: Sequence[int], offsets: Sequence[Sequence[int]], tokenizer: Any
) -> tuple[Feature, ...]:
    """Features labelled by the text itself, each with the white space before it."""
    features, shown = [], 0
    for i, (token, (start, end)) in enumerate(zip(ids, offsets, strict=True)):
        if end > shown:
            label, begin, shown = text[shown:end], shown, end
        else:
            # A token that is part of a character, or not in the text.
            label, begin = ("" if end > start else _token_text(token, tokenizer)), start
        features.append(Feature(label=label, positions=(i,), start=begin, end=max(end, begin)))
    return tuple(features)


def features_of_ids(ids: Sequence[int], tokenizer: Any, *, part: str = "text") -> tuple[Feature, ...]:
    """Features of token ids alone; without a tokenizer their labels are the ids."""
    if tokenizer is None:
        return tuple(Feature(label=f" {token}", positions=(i,), part=part) for i, token in enumerate(ids))
    special = set(getattr(tokenizer, "all_special_ids", ()))
    labels = [_token_text(token, tokenizer, first=i == 0) for i, token in enumerate(ids)]
    return tuple(
        Feature(
            label=f" {label}" if i and not label[:1].isspace() and _apart(ids[i - 1], token, tokenizer) else label,
            positions=(i,),
            part=part,
            template=token in special,
        )
        for i, (token, label) in enumerate(zip(ids, labels, strict=True))
    )


def extended(prompt: Prompt, name: str, ids: Sequence[int], processor: Any) -> Prompt:
    """The prompt with tokens appended to its `"input_ids"` or `"decoder_input_ids"`, whichever `name` says."""
    before = prompt.inputs[name]
    added = torch.tensor([list(ids)], dtype=before.dtype, device=before.device)
    inputs = {**prompt.inputs, name: torch.cat([before, added], 1)}
    for other, fill in (("attention_mask", 1), ("token_type_ids", 0), ("mm_token_type_ids", 0)):
        if name == "input_ids" and other in inputs:
            inputs[other] = torch.cat([inputs[other], torch.full_like(added, fill).to(inputs[other])], 1)
    part = "decoder" if name == "decoder_input_ids" else "answer"
    new = features_of_ids([*before[0].tolist(), *ids], tokenizer_of(processor), part=part)[before.shape[1] :]
    parts = {**prompt.parts, name: prompt.parts[name] + len(ids)}
    return replace(prompt, inputs=inputs, features=(*prompt.features, *new), parts=parts)


def _apart(before: int, token: int, tokenizer: Any) -> bool:
    """Whether a tokenizer whose tokens contain no spaces, such as one of whole words, puts one between these two."""
    if min(before, token) < 0 or token in getattr(tokenizer, "all_special_ids", ()):
        return False
    one, other, both = (
        tokenizer.decode(ids, clean_up_tokenization_spaces=False) for ids in ([before], [token], [before, token])
    )
    return not other.startswith(" ") and both == f"{one} {other}" and bool(other)


def token_label(token: int, tokenizer: Any) -> str:
    """A token as text for display; its id without a tokenizer."""
    return str(token) if tokenizer is None else _token_text(token, tokenizer)


def _token_text(token: int, tokenizer: Any, *, first: bool = False) -> str:
    piece = tokenizer.convert_ids_to_tokens(token) if token >= 0 else None
    if piece is None:
        return f"<{token}>"
    if isinstance(piece, bytes):
        piece = piece.decode(errors="replace")
    if piece.startswith("▁"):
        return (" " + piece[1:].replace("▁", " ")) if not first or len(piece) == 1 else piece[1:]
    if token in getattr(tokenizer, "all_special_ids", ()):
        return piece
    if piece.startswith("##"):
        return piece[2:]
    text = tokenizer.decode([token], clean_up_tokenization_spaces=False)
    return text if text and "\ufffd" not in text else piece


def _from_messages(messages: list[Mapping[str, Any]], processor: Any) -> Prompt:
    """The prompt of a chat, rendered by the tokenizer's own template and tokenised once."""
    tokenizer = tokenizer_of(processor)
    if tokenizer is None:
        raise ApportionError("chat messages were given but no tokenizer: Explainer(model, tokenizer).")
    if not getattr(tokenizer, "chat_template", None):
        raise ApportionError("this tokenizer has no chat template; give the whole prompt as one text.")
    for message in messages:
        if "role" not in message or "content" not in message:
            raise ApportionError(f"a message needs 'role' and 'content'; one has {sorted(message)}.")
    contents = [_content(message["content"]) for message in messages]
    if not any(content.strip() for content in contents):
        raise ApportionError("all messages are empty, so there is nothing to divide the prediction among.")
    answering = messages[-1]["role"] == "assistant"
    rendered = _rendered(messages, tokenizer, add_generation_prompt=not answering, continue_final_message=answering)
    prompt = prompt_of_text(rendered, processor, add_special_tokens=False)
    stretches = _places_of(contents, rendered)
    roles = [str(message["role"]) for message in messages] + ["assistant"]
    ends = _ends_of_turns(messages, rendered, tokenizer)
    features = []
    for feature in prompt.features:
        start, end = feature.start or 0, feature.end or 0
        said = next((t for t, (a, b) in enumerate(stretches) if start < b and end > a), None)
        turn = said if said is not None or ends is None else sum(start >= e for e in ends)
        role = None if turn is None else roles[turn]
        features.append(replace(feature, role=role, turn=turn, template=said is None))
    return replace(prompt, features=tuple(features))


def _ends_of_turns(messages: list[Mapping[str, Any]], rendered: str, tokenizer: Any) -> list[int] | None:
    """Where each turn ends in the rendered chat; None if the template renders the first turns differently alone."""
    ends = []
    for turn in range(1, len(messages) + 1):
        beginning = _rendered(messages[:turn], tokenizer)
        if not rendered.startswith(beginning) and turn < len(messages):
            return None
        ends.append(len(beginning))
    return ends


def check_text(text: str, what: str) -> None:
    """Reject text that is not valid Unicode; tokenizers fail on it with obscure errors."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ApportionError(f"{what} holds half a character at {error.start}; it was not read as UTF-8.") from error


def _rendered(messages: list[Mapping[str, Any]], tokenizer: Any, **options: bool) -> str:
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))
    except TemplateError as error:
        raise ApportionError(f"the tokenizer's chat template refuses these messages: {error}.") from error


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        raise ApportionError(f"a message's content is {content!r}; give a text, or a list of text parts.")
    texts = [part["text"] for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
    if len(texts) != len(content):
        raise ApportionError("a message holds more than text; images and sound cannot be explained yet.")
    return "".join(texts)


def _places_of(contents: Sequence[str], rendered: str) -> list[tuple[int, int]]:
    """Where each message's text stands in the rendered chat."""
    places, at = [], 0
    for turn, content in enumerate(contents):
        shown = content if content in rendered[at:] else content.strip()
        found = rendered.find(shown, at)
        if found < 0:
            raise ApportionError(
                f"the chat template changes the text of message {turn}, so its tokens cannot be distinguished from the "
                "template's; give the rendered chat as one text."
            )
        places.append((found, found + len(shown)))
        at = found + len(shown)
    return places


def _from_tensors(given: Mapping[str, Any], processor: Any) -> Prompt:
    """The prompt of the model's own inputs for one example, with its padding removed."""
    tensors = {key: torch.as_tensor(value) for key, value in given.items() if value is not None}
    name = next((name for name in MAIN_INPUTS if name in tensors), None)
    if name is None:
        floats = any(value.is_floating_point() for value in tensors.values())
        raise ApportionError(
            f"the inputs hold {', '.join(map(repr, given)) or 'nothing'} but none of 'input_ids', 'inputs_embeds' and "
            f"'pixel_values'{' (apportion.relevance.record takes any input)' if floats else ''}."
        )
    batch, length = tensors[name].shape[:2]
    if length == 0 or batch == 0:
        raise ApportionError("the prompt has no tokens, so there is nothing to divide the prediction among.")
    mask = tensors.get("attention_mask")
    left, right = _padding(mask[0]) if mask is not None and mask.ndim == 2 else (0, 0)

    def padded(key: str, value: Tensor) -> bool:
        apart = key.startswith("decoder") or key in CONTINUOUS
        return value.ndim >= 2 and value.shape[1] == length and not apart

    inputs = {k: v[:, left : length - right] if padded(k, v) else v for k, v in tensors.items()}
    parts: dict[str, int] = {} if name in CONTINUOUS else {name: inputs[name].shape[1]}
    if "decoder_input_ids" in inputs:
        parts["decoder_input_ids"] = inputs["decoder_input_ids"].shape[1]
    return Prompt(inputs, _features_of_inputs(inputs, name, processor), parts, (left, right))


def _features_of_inputs(inputs: Mapping[str, Any], name: str, processor: Any) -> tuple[Feature, ...]:
    tokenizer = tokenizer_of(processor)
    if name in CONTINUOUS:
        given = inputs.get("decoder_input_ids")
        return () if given is None else features_of_ids(given[0].tolist(), tokenizer, part="decoder")
    part = "source" if "decoder_input_ids" in inputs else "text"
    if name == "inputs_embeds":
        features = features_of_ids(range(inputs[name].shape[1]), None, part=part)
    else:
        features = features_of_ids(inputs[name][0].tolist(), tokenizer, part=part)
    if part == "text":
        return features
    return features + features_of_ids(inputs["decoder_input_ids"][0].tolist(), tokenizer, part="decoder")


def _padding(mask: Tensor) -> tuple[int, int]:
    kept = mask.nonzero().flatten().tolist()
    if not kept:
        raise ApportionError("an attention mask hides every token of an example; each needs at least one.")
    if len(kept) != kept[-1] - kept[0] + 1:
        raise ApportionError("an attention mask has holes between tokens; only padding at the ends is possible.")
    return kept[0], len(mask) - 1 - kept[-1]


def tokenizer_of(processor: Any) -> Any:
    """The tokenizer, or that of a processor; None if there is none, as in an image processor."""
    if isinstance(processor, ImageProcessingMixin | FeatureExtractionMixin):
        return None
    return getattr(processor, "tokenizer", processor)
