"""Prompts for a model from what users give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from apportion.core import ApportionError
from apportion.models.inputs import _mixed as mixed
from apportion.models.inputs._continuous_inputs import ImageContext, with_continuous_inputs
from apportion.models.inputs._images import processed
from apportion.models.inputs._prompt import Prompt, prompt_of_tokens
from apportion.models.inputs._reads import image_token, reads, sees
from apportion.models.inputs._recognised import Recognised, singles
from apportion.models.inputs._regions import AnyRegions
from apportion.models.inputs._sound import prompt_of_sound


def parsed_prompts(
    prompt: Any, model: nn.Module, processor: Any, *, device: torch.device, regions: AnyRegions = "patches"
) -> list[Prompt]:
    """Every prompt in what the user gave.

    Args:
        prompt: A text, messages, ids, an image, a pair, `{"text": …, "images": …}`, the model's own inputs, an object
            with `as_prompt`, or a list of these.
        model: The model.
        processor: Its tokenizer or processor.
        device: Its device.
        regions: How images are divided, as in `Explainer.explain`.

    Raises:
        ApportionError: It is empty, has an unknown type, or does not fit the model.
    """
    found = []
    for one in singles(prompt, model):
        made = replace(_read(one, model, processor, regions).to(device), form=one.form)
        if one.form not in ("own", "sound"):  # these already have their continuous inputs
            made = with_continuous_inputs(made, ImageContext(model, processor, regions, one.images))
        found.append(mixed.with_sides(made) if one.form == "images" else made)
    return found


def _read(found: Recognised, model: nn.Module, processor: Any, regions: AnyRegions) -> Prompt:
    """The prompt's tokens and inputs on any device; its images are divided later."""
    given, form = found.given, found.form
    if form == "own":
        own: Prompt = given.as_prompt(model)
        return own
    if form == "sound":
        return prompt_of_sound(given, model, processor, regions)
    if form == "image":
        return _of_image(given, model, processor)
    if form == "mixed":
        return mixed.prompt_of_mixed(found, model, processor)
    if form == "texts":
        return mixed.prompt_of_texts(given, model, processor)
    if form == "images":
        return mixed.prompt_of_images(given, model, processor)
    if form == "caption":
        return mixed.prompt_of_caption(given, model, processor)
    prompt = prompt_of_tokens(form, given, processor)
    _check_images(prompt, model, of_ids=form in ("ids", "tensors"))
    return prompt


def _of_image(image: Any, model: nn.Module, processor: Any) -> Prompt:
    if reads(model, "input_ids"):
        raise ApportionError(
            f"{type(model).__name__} reads images with text; give both: ap.Pair(image, text), messages with an image, "
            "or {'images': image, 'text': …}."
        )
    return Prompt(processed(image, processor, model), (), {})


def _check_images(prompt: Prompt, model: nn.Module, *, of_ids: bool) -> None:
    """Reject a text without an image if the model reads both; as token ids it is accepted."""
    if "pixel_values" in prompt.inputs or not sees(model) or "input_ids" not in prompt.parts:
        return
    if not of_ids or image_token(model) in prompt.ids:
        raise text_without_image(model)


def text_without_image(model: nn.Module) -> ApportionError:
    """The error for text alone, given to a model that reads images with text."""
    return ApportionError(
        f"{type(model).__name__} was given a text without an image; give both: ap.Pair(image, text), messages with "
        "{'type': 'image', 'image': …}, or {'images': image, 'text': …}"
        + (". (For text alone give token ids.)" if image_token(model) is not None else ".")
    )
