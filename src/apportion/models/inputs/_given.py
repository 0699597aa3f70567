"""What users give to be explained: texts, chats, images, pairs, and images with text, as prompts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from apportion.core import ApportionError, Pair
from apportion.models._kind import _reads, kind_of_model, sees
from apportion.models.inputs._canvases import Seen, image_token, with_canvases
from apportion.models.inputs._images import is_image, processed
from apportion.models.inputs._mixed import prompt_of_images, prompt_of_mixed, prompt_of_texts, with_sides
from apportion.models.inputs._prompt import Prompt, prompts_from
from apportion.models.inputs._regions import AnyRegions
from apportion.models.inputs._sides import sides_of
from apportion.models.inputs._sound import prompt_of_sound


def prompts_given(
    prompt: Any, model: nn.Module, processor: Any, *, device: torch.device, regions: AnyRegions = "patches"
) -> list[Prompt]:
    """Every prompt in what the user gave.

    Args:
        prompt: A text, messages, ids, an image, a pair, `{"text": …, "images": …}`, the model's own inputs, what makes
            a prompt of itself (`as_prompt`), or a list.
        model: That will read it.
        processor: Its tokenizer or processor.
        device: Of the model.
        regions: How images are divided, as in `Explainer.explain`.

    Raises:
        ApportionError: It is empty, of no known type, or does not fit the model.
    """
    if isinstance(prompt, list | tuple) and prompt and (is_image(prompt[0]) or isinstance(prompt[0], Pair)):
        return [one for each in prompt for one in prompts_given(each, model, processor, device=device, regions=regions)]
    if hasattr(prompt, "as_prompt"):
        own = prompt.as_prompt(model)
        return [replace(own, inputs=_moved(own.inputs, device))]
    if isinstance(prompt, Mapping) and "audio" in prompt:
        sound = prompt_of_sound(prompt, model, processor, regions)
        return [replace(sound, inputs=_moved(sound.inputs, device))]
    if isinstance(prompt, Pair) and (sides := sides_of(prompt, sees=sees(model))) is not None:
        if sides == "texts":
            texts = prompt_of_texts(prompt, model, processor)
            return [replace(texts, inputs=_moved(texts.inputs, device))]
        two, both = prompt_of_images(prompt, model, processor)
        two = replace(two, inputs=_moved(two.inputs, device))
        return [with_sides(with_canvases(two, Seen(model, processor, regions, both)))]
    if sees(model) and _is_image(prompt, model):
        made, images = _of_image(prompt, model, processor), (prompt,)
    elif isinstance(prompt, Pair) or _is_mixed(prompt):
        made, images = prompt_of_mixed(prompt, model, processor)
    else:
        found = prompts_from(prompt, processor, device=device)
        for one in found:
            _check_images(one, model, of_ids=not _is_text(prompt))
        return [with_canvases(one, Seen(model, processor, regions)) for one in found]
    made = replace(made, inputs=_moved(made.inputs, device))
    return [with_canvases(made, Seen(model, processor, regions, images))]


def _moved(inputs: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}


def _is_image(prompt: Any, model: nn.Module) -> bool:
    path = isinstance(prompt, str | os.PathLike) and image_token(model) is None and not _reads(model, "input_ids")
    return path or is_image(prompt)


def _of_image(image: Any, model: nn.Module, processor: Any) -> Prompt:
    if _reads(model, "input_ids"):
        raise ApportionError(
            f"{type(model).__name__} reads images with text; give both: ap.Pair(image, text), messages with an image, "
            "or {'images': image, 'text': …}."
        )
    return Prompt(processed(image, processor, model), (), {})


def _is_mixed(prompt: Any) -> bool:
    """Whether a prompt holds images beside text: messages with images, or a mapping of the two."""
    if isinstance(prompt, Mapping):
        return bool({"text", "image", "images"} & set(prompt))
    if not isinstance(prompt, list | tuple) or not prompt or not isinstance(prompt[0], Mapping):
        return False
    contents = [message.get("content") for message in prompt if isinstance(message, Mapping)]
    parts = [part for content in contents if isinstance(content, list | tuple) for part in content]
    return any(isinstance(part, Mapping) and part.get("type", "text") != "text" for part in parts)


def _is_text(prompt: Any) -> bool:
    """Whether a prompt is a text, messages, or a list of these, rather than what a model reads."""
    first = prompt[0] if isinstance(prompt, list | tuple) and prompt else prompt
    return isinstance(first, str) or (isinstance(first, Mapping) and "role" in first)


def _check_images(prompt: Prompt, model: nn.Module, *, of_ids: bool) -> None:
    """Refuse a text without an image, where the model reads both; token ids alone show that it is meant.

    Raises:
        ApportionError: No image is given.
    """
    if "pixel_values" in prompt.inputs or not sees(model) or "input_ids" not in prompt.parts:
        return
    token = image_token(model)
    compares = kind_of_model(model) == "dual-encoder"
    if compares or not of_ids or (token is not None and token in prompt.ids):
        raise ApportionError(
            f"{type(model).__name__} was given a text without an image; give both: ap.Pair(image, text), messages with "
            "{'type': 'image', 'image': …}, or {'images': image, 'text': …}"
            + (". (For text alone give token ids.)" if token is not None else ".")
        )


def image_in(prompt: Any) -> Any:
    """The one image in what the user gave; None where it holds none, or several, or the model's own inputs."""
    if isinstance(prompt, Pair):
        found = [side for side in (prompt.first, prompt.second) if is_image(side)]
    elif isinstance(prompt, Mapping):
        images = prompt.get("images", prompt.get("image"))
        found = list(images) if isinstance(images, list | tuple) else [] if images is None else [images]
    elif isinstance(prompt, list | tuple) and prompt and isinstance(prompt[0], Mapping):
        contents = [message.get("content") for message in prompt]
        parts = [part for content in contents if isinstance(content, list | tuple) for part in content]
        images_of = [part for part in parts if isinstance(part, Mapping) and part.get("type") == "image"]
        found = [part.get("image", part.get("path", part.get("url"))) for part in images_of]
    else:
        found = [prompt] if is_image(prompt) else []
    return found[0] if len(found) == 1 else None
