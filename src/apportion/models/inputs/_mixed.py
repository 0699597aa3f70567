"""Images with text: pairs for dual encoders, and texts or chats with images for models that generate text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jinja2 import TemplateError
from torch import Tensor, nn

from apportion.core import ApportionError, Feature, Pair
from apportion.models.inputs._images import as_image, is_image, model_inputs, processed
from apportion.models.inputs._prompt import OTHER, Prompt, check_text, features_of_ids, prompt_of_text, tokenizer_of
from apportion.models.inputs._recognised import Recognised
from apportion.models.inputs._tokens import token_prompts

#: The parts of a pair of two texts or two images.
PARTS = ("first", "second")


def prompt_of_mixed(found: Recognised, model: nn.Module, processor: Any) -> Prompt:
    """The prompt of `{"text": …, "images": …}`, or of messages that hold images.

    Raises:
        ApportionError: Text or image is missing, images and places differ in number, or the processor rejects them.
    """
    if not isinstance(found.given, Mapping):
        return _of_chat(list(found.given), found.images, model, processor)
    unknown = sorted(set(found.given) - {"text", "image", "images"})
    if unknown:
        raise ApportionError(f"the prompt holds {unknown[0]!r}; give 'text' with 'image' or 'images'.")
    text, images = found.given.get("text"), found.images
    if not isinstance(text, str):
        raise ApportionError(f"the prompt's text is {text!r}; give a text beside the image.")
    if _writes(model):
        return _of_text(text, images, model, processor, special=True)
    if len(images) != 1:
        raise ApportionError(f"{type(model).__name__} compares one image with a text; {len(images)} were given.")
    return prompt_of_caption(Pair(images[0], text), model, processor)


def _writes(model: nn.Module) -> bool:
    embeddings: Any = getattr(model, "get_output_embeddings", None)
    return callable(embeddings) and embeddings() is not None


def prompt_of_caption(pair: Pair, model: nn.Module, processor: Any) -> Prompt:
    """The prompt of an image and a text that are compared.

    Raises:
        ApportionError: The pair is not an image and a text, or the model's processor does not read it.
    """
    sides = sorted((pair.first, pair.second), key=lambda side: not is_image(side))
    if not is_image(sides[0]) or is_image(sides[1]):
        kinds = " and ".join("an image" if is_image(s) else f"a {type(s).__name__}" for s in (pair.first, pair.second))
        raise ApportionError(f"{type(model).__name__} compares an image with a text; the pair holds {kinds}.")
    image, text = sides
    prompt = text_prompt(text, model, processor)
    return replace(prompt, inputs={**prompt.inputs, **processed(image, processor, model)})


def prompt_of_texts(pair: Pair, model: nn.Module, processor: Any) -> Prompt:
    """The prompt of a pair of texts; the inputs of its second side have the prefix `OTHER`.

    Raises:
        ApportionError: A side is empty, or neither text nor token ids, or there is no tokenizer.
    """
    sides = [text_prompt(side, model, processor) for side in (pair.first, pair.second)]
    inputs, features = _both([side.inputs for side in sides]), []
    for side, part in zip(sides, PARTS, strict=True):
        features += [replace(feature, part=part) for feature in side.features]
    parts = {"input_ids": len(sides[0].features), f"{OTHER}input_ids": len(sides[1].features)}
    return Prompt(inputs, tuple(features), parts)


def prompt_of_images(pair: Pair, model: nn.Module, processor: Any) -> Prompt:
    """The prompt of a pair of images, without features yet.

    Raises:
        ApportionError: There is no image processor, or the model reads more of an image than its pixels.
    """
    images = (pair.first, pair.second)
    sides = [dict(image) if isinstance(image, Mapping) else processed(image, processor, model) for image in images]
    if more := [name for name in sides[0] if name != "pixel_values"]:
        raise ApportionError(
            f"{type(model).__name__} reads {more[0]!r} beside an image's pixels, so two images cannot be compared yet."
        )
    return Prompt(_both(sides), (), {})


def with_sides(prompt: Prompt) -> Prompt:
    """The continuous inputs of a pair of images, named by their sides."""
    continuous_inputs = tuple(
        replace(
            continuous,
            features=tuple(replace(feature, part=side) for feature in continuous.features),
            pictures=tuple(replace(picture, label=side) for picture in continuous.pictures),
            line=f"{side} image",
        )
        for continuous, side in zip(prompt.continuous_inputs, PARTS, strict=True)
    )
    features = tuple(feature for continuous in continuous_inputs for feature in continuous.features)
    return replace(prompt, continuous_inputs=continuous_inputs, features=features)


def _both(sides: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first, second = sides
    # A copy, since inputs with equal values are distinguished by their memory.
    copied = {f"{OTHER}{k}": v.clone() if isinstance(v, Tensor) else v for k, v in second.items()}
    return {**first, **copied}


def text_prompt(text: Any, model: nn.Module, processor: Any) -> Prompt:
    """The prompt of one side of a pair: a text, its token ids, or the model's inputs for it.

    Raises:
        ApportionError: It is empty or something else, or there is no tokenizer.
    """
    if isinstance(text, str):
        return prompt_of_text(text, processor, length=_fixed_length(model))
    found = token_prompts(text, processor)
    if len(found) != 1 or list(found[0].parts) != ["input_ids"]:
        raise ApportionError("a side of a pair is one text, its token ids, or the model's inputs for one text.")
    return found[0]


def empty_text(model: nn.Module, processor: Any) -> dict[str, Tensor]:
    """The inputs of a model of pairs for a text without words: the tokenizer's special tokens, or nothing."""
    length = _fixed_length(model)
    padding = {} if length is None else {"padding": "max_length", "max_length": length}
    found = dict(tokenizer_of(processor)("", return_tensors="pt", **padding))
    if length is not None:
        found.pop("attention_mask", None)
    return found


def _fixed_length(model: nn.Module) -> int | None:
    """The length to pad texts to: SigLIP reads no mask and was trained with texts of one length."""
    config = getattr(model, "config", None)
    if not str(getattr(config, "model_type", "")).startswith("siglip"):
        return None
    length = getattr(getattr(config, "text_config", config), "max_position_embeddings", None)
    return length if isinstance(length, int) else None


def _of_text(text: str, images: Sequence[Any], model: nn.Module, processor: Any, *, special: bool) -> Prompt:
    """A text with a place for each image, read by the model's own processor."""
    check_text(text, "the prompt")
    token = getattr(processor, "image_token", None)
    if getattr(processor, "image_processor", None) is None:
        raise ApportionError(
            "an image was given but the processor makes none: Explainer(model, processor) with the model's processor, "
            "not its tokenizer."
        )
    places = text.count(token) if isinstance(token, str) and token else len(images)
    if places != len(images):
        raise ApportionError(
            f"the text has {places} places for images ({token!r}) and {len(images)} images were given; "
            "give one image for each place."
        )
    options = {} if special else {"add_special_tokens": False}
    opened = [as_image(image) for image in images]
    try:
        encoded = dict(processor(text=text, images=opened or None, return_tensors="pt", **options))
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        raise ApportionError(f"the processor refuses this prompt: {str(error).splitlines()[0]}") from error
    inputs = model_inputs(encoded, model)
    features = features_of_ids(inputs["input_ids"][0].tolist(), tokenizer_of(processor))
    return Prompt(inputs, features, {"input_ids": len(features)})


def _of_chat(messages: list[Mapping[str, Any]], images: Sequence[Any], model: nn.Module, processor: Any) -> Prompt:
    """Messages with images in them, rendered by the processor's own template."""
    parts = [_parts(message) for message in messages]
    if any(image is None for image in images):
        raise ApportionError("a message has a place for an image but no image: {'type': 'image', 'image': …}.")
    plain = [
        {"role": message["role"], "content": [p if p["type"] == "text" else {"type": "image"} for p in of_message]}
        for message, of_message in zip(messages, parts, strict=True)
    ]
    answering = messages[-1]["role"] == "assistant"
    try:
        rendered = processor.apply_chat_template(
            plain, tokenize=False, add_generation_prompt=not answering, continue_final_message=answering
        )
    except (AttributeError, TemplateError, ValueError) as error:
        raise ApportionError(
            f"the processor renders no chat with images ({str(error).splitlines()[0]}); give "
            "{'images': …, 'text': …} with the places of the images in the text."
        ) from error
    prompt = _of_text(str(rendered), images, model, processor, special=False)
    texts = [[part["text"] for part in of_message if part["type"] == "text"] for of_message in parts]
    roles = [str(message["role"]) for message in messages]
    return replace(prompt, features=_with_roles(prompt.features, texts, roles))


def _parts(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if "role" not in message or "content" not in message:
        raise ApportionError(f"a message needs 'role' and 'content'; one has {sorted(message)}.")
    content = message["content"]
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list | tuple):
        raise ApportionError(f"a message's content is {content!r}; give a text, or a list of parts.")
    for part in content:
        if not isinstance(part, Mapping) or part.get("type") not in ("text", "image"):
            raise ApportionError(
                f"a message holds {part!r}; its parts are {{'type': 'text', 'text': …}} and "
                "{'type': 'image', 'image': …}."
            )
    return list(content)


def _with_roles(
    features: tuple[Feature, ...], texts: Sequence[Sequence[str]], roles: Sequence[str]
) -> tuple[Feature, ...]:
    """The features with roles and turns: tokens of a message's texts get its own, all others are of the template."""
    joined = "".join(feature.label for feature in features)
    stretches: list[tuple[int, int, int]] = []
    at = 0
    for turn, of_message in enumerate(texts):
        for text in of_message:
            start = joined.find(text.strip(), at)
            if start < 0:
                raise ApportionError(
                    f"the text of message {turn} is not found in the rendered chat, so its tokens cannot be separated "
                    "from the template's; give {'images': …, 'text': …} instead."
                )
            at = start + len(text.strip())
            stretches.append((start, at, turn))
    found, end = [], 0
    for feature in features:
        start, end = end, end + len(feature.label)
        said = next((t for a, b, t in stretches if start < b and end > a), None)
        found.append(replace(feature, template=True) if said is None else replace(feature, role=roles[said], turn=said))
    return tuple(found)
