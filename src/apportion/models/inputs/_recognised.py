"""Recognising the form of a prompt: text, chat, ids, tensors, image, pair, sound, or several prompts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from apportion.core import ApportionError, Pair
from apportion.models.inputs._images import is_image
from apportion.models.inputs._prompt import CONTINUOUS, MAIN_INPUTS, Form
from apportion.models.inputs._reads import image_token, reads, sees


@dataclass(frozen=True)
class Recognised:
    """A prompt as the user gave it, and its form.

    Args:
        given: The prompt.
        form: Its form.
        several: Whether it is a list of prompts or a batch of tensors.
        images: The images in it, if it is a single prompt.
        text: The text that is compared with the image of a caption.
    """

    given: Any
    form: Form
    several: bool = False
    images: tuple[Any, ...] = ()
    text: Any = None

    @property
    def image(self) -> Any:
        """The only image in it; None if there are none or several, or it is the model's own inputs."""
        return self.images[0] if len(self.images) == 1 else None

    @property
    def is_pair(self) -> bool:
        """Whether it is a pair whose two sides are compared."""
        return self.form in ("texts", "images", "caption")


def recognised(prompt: Any, model: nn.Module | None) -> Recognised:
    """The form of a prompt; the path of an image is a text if the model reads no images or is None.

    Raises:
        ApportionError: The prompt has an unknown type.
    """
    seeing = model is not None and sees(model)
    if hasattr(prompt, "as_prompt"):
        return Recognised(prompt, "own")
    if isinstance(prompt, Pair):
        return _pair(prompt, seeing=seeing)
    if isinstance(prompt, Mapping):  # what tokenizers return is one
        return _mapping(prompt)
    if model is not None and seeing and (is_image(prompt) or _is_path_of_image(prompt, model)):
        return Recognised(prompt, "image", images=(prompt,))
    if isinstance(prompt, str):
        return Recognised(prompt, "text")
    if isinstance(prompt, Tensor):
        return _tensor(prompt)
    if isinstance(prompt, list | tuple):
        return _list(prompt)
    if isinstance(prompt, Iterable) and not isinstance(prompt, np.ndarray):  # a generator, a column of a table
        return Recognised(prompt, "list", several=True)
    raise unknown(prompt, "an image, " if seeing else "")


def unknown(prompt: Any, more: str = "") -> ApportionError:
    """The error for a prompt of no fitting form."""
    return ApportionError(
        f"the prompt is a {type(prompt).__name__}; give a text, a list of texts, chat messages, token ids, {more}"
        "or a dict of the model's inputs."
    )


def each_of(prompt: Any, model: nn.Module | None) -> Iterable[Any]:
    """The members of a list or of a batch of tensors, or the single prompt itself.

    Raises:
        ApportionError: The prompt has an unknown type, or the tensors of a batch cannot be separated.
    """
    found = recognised(prompt, model)
    if not found.several:
        return [prompt]
    if found.form == "list":
        return prompt
    return _rows(prompt if isinstance(prompt, Mapping) else {"input_ids": prompt})


def singles(prompt: Any, model: nn.Module | None) -> list[Recognised]:
    """Every single prompt in a prompt, also in lists of lists and of batches.

    Raises:
        ApportionError: There is none, one has an unknown type, or the tensors of a batch cannot be separated.
    """
    found = recognised(prompt, model)
    if not found.several:
        return [found]
    each = [single for one in each_of(prompt, model) for single in singles(one, model)]
    if not each:
        raise ApportionError("the prompt is an empty list; give a text, messages, or token ids.")
    return each


def _pair(pair: Pair, *, seeing: bool) -> Recognised:
    sides = (pair.first, pair.second)
    seen = [seeing and (is_image(side) or (isinstance(side, Mapping) and "pixel_values" in side)) for side in sides]
    if seen[0] == seen[1]:
        return Recognised(pair, "images", images=sides) if seen[0] else Recognised(pair, "texts")
    image, text = sides if seen[0] else sides[::-1]
    return Recognised(pair, "caption", images=(image,) if is_image(image) else (), text=text)


def _mapping(prompt: Mapping[str, Any]) -> Recognised:
    if "audio" in prompt:
        return Recognised(prompt, "sound")
    if {"text", "image", "images"} & set(prompt):
        images = prompt.get("images", prompt.get("image"))
        found = tuple(images) if isinstance(images, list | tuple) else () if images is None else (images,)
        return Recognised(prompt, "mixed", images=found)
    main = next((torch.as_tensor(prompt[name]) for name in MAIN_INPUTS if prompt.get(name) is not None), None)
    return Recognised(prompt, "tensors", several=main is not None and main.ndim >= 2 and len(main) > 1)


def _is_path_of_image(prompt: Any, model: nn.Module) -> bool:
    """Whether a text is a path, since the model reads images and no text."""
    return isinstance(prompt, str | os.PathLike) and image_token(model) is None and not reads(model, "input_ids")


def _tensor(prompt: Tensor) -> Recognised:
    if prompt.is_floating_point():
        raise ApportionError("a tensor of token ids must hold integers; give embeddings as {'inputs_embeds': …}.")
    return Recognised(prompt, "ids", several=prompt.ndim >= 2 and len(prompt) > 1)


def _list(prompt: Any) -> Recognised:
    first = prompt[0] if prompt else None
    if isinstance(first, int):
        return Recognised(prompt, "ids")
    if not isinstance(first, Mapping) or not {"role", "content"} & set(first):
        return Recognised(prompt, "list", several=True)
    contents = [message.get("content") for message in prompt if isinstance(message, Mapping)]
    parts = [part for content in contents if isinstance(content, list | tuple) for part in content]
    typed = [part for part in parts if isinstance(part, Mapping) and part.get("type", "text") != "text"]
    names = ("image", "path", "url")
    images = [[part[n] for n in names if part.get(n) is not None] for part in typed if part["type"] == "image"]
    return Recognised(prompt, "mixed" if typed else "chat", images=tuple(one[0] if one else None for one in images))


def _rows(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each example of a batch of the model's inputs; inputs without a row for each are shared."""
    tensors = {name: torch.as_tensor(value) for name, value in batch.items() if value is not None}
    count = len(next(tensors[name] for name in MAIN_INPUTS if name in tensors))
    apart = next((name for name in CONTINUOUS if name in tensors and len(tensors[name]) != count), None)
    if apart is not None:
        raise ApportionError(
            f"{apart!r} has no row for each of the {count} examples, so they cannot be separated; give one at a time."
        )
    return [
        {name: v[b : b + 1] if v.ndim and len(v) == count else v for name, v in tensors.items()} for b in range(count)
    ]
