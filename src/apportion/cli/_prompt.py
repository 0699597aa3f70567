"""The prompt: a text, a chat and images as typed, made into one prompt that fits the model."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer

import apportion as ap
from apportion.cli._command import Options, how, what
from apportion.core import ApportionError

#: A mask with more colours is a photograph, or was saved with lossy compression.
MANY_REGIONS = 4096


@dataclass(frozen=True, kw_only=True)
class Prompt(Options):
    """A text, a chat or images."""

    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT",
            help="The prompt, or - to read it from standard input. After -- it may begin with a dash.",
            show_default=False,
        ),
    ] = None
    file: Annotated[Path | None, what("--file", "-f", metavar="PATH", help="Read the prompt from a file instead.")] = (
        None
    )
    image: Annotated[
        list[Path] | None,
        what(
            "--image",
            "-i",
            metavar="PATH",
            help="A picture file for a model that sees; may be repeated. A text beside it is the caption or the task.",
        ),
    ] = None
    chat: Annotated[
        bool, what("--chat", help="The prompt is a JSON list of messages, or the text of one user message.")
    ] = False

    def check(self) -> None:
        """There must be a text, or an image that needs none."""
        _ = self._said

    def resolve(self) -> None:
        """Images must be pictures."""
        _ = self._images

    def fitting(self, explainer: ap.Explainer) -> Any:
        """Text and images as one prompt that fits the model; see `as_seen`."""
        return as_seen(self._said, self._images, explainer)

    @cached_property
    def _said(self) -> str | list[dict[str, Any]] | None:
        if self.text is None and self.file is None and self.image:
            if self.chat:
                raise ApportionError("--chat needs a text beside --image: the user's message.")
            return None
        return as_prompt(prompt_text(self.text, self.file), chat=self.chat)

    @cached_property
    def _images(self) -> list[Any]:
        return [opened(path) for path in self.image or ()]


@dataclass(frozen=True, kw_only=True)
class Regions(Options):
    """How images are divided."""

    regions: Annotated[
        str | None,
        how(
            "--regions",
            metavar="HOW",
            help="How images are divided: patches, pixels, visual-tokens, or the side of squares in pixels, such as "
            "16. Default: patches.",
        ),
    ] = None
    regions_mask: Annotated[
        Path | None,
        how("--regions-mask", metavar="PATH", help="A picture of the image's size in which each colour is a region."),
    ] = None

    def check(self) -> None:
        """Only one may be given."""
        if self.regions is not None and self.regions_mask is not None:
            raise ApportionError("--regions and --regions-mask were both given; give one.")

    def resolve(self) -> None:
        """The regions must be known, or the mask a picture."""
        _ = self.options

    @cached_property
    def options(self) -> dict[str, Any]:
        """How images are divided, as `explain` takes it; empty if not given."""
        if self.regions_mask is not None:
            return {"regions": regions_in(self.regions_mask)}
        if self.regions is None:
            return {}
        from apportion.models.inputs import check_regions

        chosen = int(self.regions) if self.regions.isdecimal() else self.regions
        check_regions(chosen)
        return {"regions": chosen}


def as_seen(text: Any, images: Sequence[Any], explainer: ap.Explainer) -> Any:
    """Text and images as one prompt that fits the model, or an error that says what is missing or superfluous."""
    from apportion.models import kind_of_model
    from apportion.models.inputs import reads, sees

    model = explainer.model
    name, kind = type(model).__name__, kind_of_model(model)
    if not images:
        if sees(model) and not reads(model, "input_ids"):
            raise ApportionError(f"{name} reads images alone; give --image PATH.")
        return text
    if not sees(model):
        raise ApportionError(f"{name} reads text alone; leave out --image, or give a model that sees.")
    if not reads(model, "input_ids"):
        if not kind.has_head:
            raise ApportionError(
                f"{name} has no head, so it predicts nothing that the command line can name; give a checkpoint with "
                "its classifier, or explain it in Python with target=Projection(…) or Cosine(…)."
            )
        if text is not None or len(images) > 1:
            given = f"{len(images)} images were given" if text is None else "a text was given as well"
            raise ApportionError(f"{name} reads one image and no text; {given}.")
        return images[0]
    if text is None:
        raise ApportionError(f"{name} reads images with text; give the text as well.")
    if kind.compares:
        if not isinstance(text, str) or len(images) > 1:
            raise ApportionError(f"{name} compares one image with one text; leave out --chat and further images.")
        return ap.Pair(images[0], text)
    return _with_images(text, images, explainer.processor)


def _with_images(text: Any, images: Sequence[Any], processor: Any) -> Any:
    """A prompt for a generating model: messages with the images before the user's words, or text with placeholders."""
    parts = [{"type": "image", "image": image} for image in images]
    if not isinstance(text, str):
        first = next((i for i, message in enumerate(text) if message["role"] == "user"), 0)
        said = text[first]["content"]
        words = [{"type": "text", "text": said}] if isinstance(said, str) else list(said)
        return [{**message, "content": [*parts, *words]} if i == first else message for i, message in enumerate(text)]
    token = getattr(processor, "image_token", None)
    if isinstance(token, str) and token and token not in text:
        if getattr(processor, "chat_template", None):
            return _with_images([{"role": "user", "content": text}], images, processor)
        text = token * len(images) + "\n" + text
    return {"images": list(images), "text": text}


def opened(path: Path) -> Any:
    from apportion.models.inputs import as_image

    return as_image(path)


def regions_in(mask: Path) -> Any:
    """A map of region numbers from a picture in which each colour is a region."""
    import numpy

    colours = numpy.asarray(opened(mask)).astype(numpy.int64)
    coded = (colours[..., 0] * 256 + colours[..., 1]) * 256 + colours[..., 2]
    numbers = numpy.unique(coded, return_inverse=True)[1].reshape(coded.shape)
    if numbers.max() >= MANY_REGIONS:
        raise ApportionError(
            f"{str(mask)!r} has {numbers.max() + 1} colours, as a photograph has; in a mask each region is one colour."
        )
    return numbers


def prompt_text(text: str | None, file: Path | None) -> str:
    """The prompt's text from the argument, a file or standard input; the last newline of the latter two is dropped."""
    if (text is None) == (file is None):
        given = "no prompt was given" if text is None else "a text and --file were both given"
        raise ApportionError(f"{given}; give a text, - for standard input, --file PATH, or --image PATH.")
    if file is not None:
        try:
            return _decoded(file.read_bytes(), f"the file {str(file)!r}")
        except OSError as error:
            raise ApportionError(f"cannot read {str(file)!r}: {error.strerror}.") from error
    assert text is not None
    if text == "-":
        return _decoded(sys.stdin.buffer.read(), "standard input")
    if os.path.isfile(text):
        # Either interpretation would be a guess, and its heat map would look right.
        raise ApportionError(
            f"{text!r} is a file here: give --file {text} to explain its contents, or pipe the name itself into -."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ApportionError("the text is not valid UTF-8; is it from another encoding?") from error
    return text


def _decoded(content: bytes, source: str) -> str:
    try:
        return content.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ApportionError(f"{source} is not UTF-8 text (byte {error.start}); convert it first.") from error


def as_prompt(text: str, *, chat: bool) -> str | list[dict[str, Any]]:
    """The text as the explainer takes it: itself, or the messages of a chat."""
    if not chat:
        return text
    if not text.lstrip().startswith("["):
        return [{"role": "user", "content": text}]
    try:
        messages = json.loads(text)
    except json.JSONDecodeError as error:
        raise ApportionError(f"--chat: the prompt begins with [ but is no JSON list of messages: {error}.") from error
    if not all(isinstance(m, dict) and isinstance(m.get("role"), str) and m.get("content") for m in messages):
        raise ApportionError(
            '--chat: each message needs a role and a content, such as [{"role": "user", "content": "Hi"}].'
        )
    return messages
