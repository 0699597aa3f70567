"""What users give to be explained, as prompts that a model reads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from apportion.core import ApportionError
from apportion.models.inputs._continuous_inputs import ImageContext, with_continuous_inputs
from apportion.models.inputs._images import processed
from apportion.models.inputs._mixed import (
    prompt_of_caption,
    prompt_of_images,
    prompt_of_mixed,
    prompt_of_texts,
    with_sides,
)
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
        prompt: A text, messages, ids, an image, a pair, `{"text": …, "images": …}`, the model's own inputs, what makes
            a prompt of itself (`as_prompt`), or a list.
        model: That will read it.
        processor: Its tokenizer or processor.
        device: Of the model.
        regions: How images are divided, as in `Explainer.explain`.

    Raises:
        ApportionError: It is empty, of no known type, or does not fit the model.
    """
    found = []
    for one in singles(prompt, model):
        made = replace(_read(one, model, processor, regions).to(device), form=one.form)
        if one.form not in ("own", "sound"):  # which come with their continuous_inputs
            made = with_continuous_inputs(made, ImageContext(model, processor, regions, one.images))
        found.append(with_sides(made) if one.form == "images" else made)
    return found


def _read(found: Recognised, model: nn.Module, processor: Any, regions: AnyRegions) -> Prompt:
    """The prompt's tokens and inputs, on no device in particular; its images are divided later."""
    given, form = found.given, found.form
    if form == "own":
        own: Prompt = given.as_prompt(model)
        return own
    if form == "sound":
        return prompt_of_sound(given, model, processor, regions)
    if form == "image":
        return _of_image(given, model, processor)
    if form == "mixed":
        return prompt_of_mixed(found, model, processor)
    if found.is_pair:
        make = {"texts": prompt_of_texts, "images": prompt_of_images, "caption": prompt_of_caption}[form]
        return make(given, model, processor)
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
    """Refuse a text without an image, where the model reads both; token ids alone show that it is meant."""
    if "pixel_values" in prompt.inputs or not sees(model) or "input_ids" not in prompt.parts:
        return
    if not of_ids or image_token(model) in prompt.ids:
        raise text_without_image(model)


def text_without_image(model: nn.Module) -> ApportionError:
    """That a model which reads images with text was given text alone."""
    return ApportionError(
        f"{type(model).__name__} was given a text without an image; give both: ap.Pair(image, text), messages with "
        "{'type': 'image', 'image': …}, or {'images': image, 'text': …}"
        + (". (For text alone give token ids.)" if image_token(model) is not None else ".")
    )
