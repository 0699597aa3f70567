"""What was asked, as the library takes it: prompt, target, methods, model."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apportion.cli._app import note, waiting
from apportion.cli._options import Unit
from apportion.core import ApportionError

if TYPE_CHECKING:
    import apportion

#: A mask of more colours is a photograph or was saved with losses.
MANY_REGIONS = 4096


def prompt_of(
    text: str | None, file: Path | None, images: Sequence[Path] | None, *, chat: bool
) -> tuple[Any, Sequence[Any]]:
    """The text as the explainer takes it, if there is one, and the images, opened.

    Raises:
        ApportionError: There is neither, or a file is missing, damaged or no picture.
    """
    opened = [_opened(path) for path in images or ()]
    if text is None and file is None and opened:
        if chat:
            raise ApportionError("--chat needs a text beside --image: the user's message.")
        return None, opened
    return as_prompt(prompt_text(text, file), chat=chat), opened


def as_seen(text: Any, images: Sequence[Any], explainer: apportion.Explainer) -> Any:
    """Text and images as one prompt that fits the model.

    Raises:
        ApportionError: The model takes no images, or needs a text or an image that is missing, or another number.
    """
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
        from apportion import Pair

        return Pair(images[0], text)
    return _with_images(text, images, explainer.processor)


def _with_images(text: Any, images: Sequence[Any], processor: Any) -> Any:
    """A prompt of a model that writes: messages, the images before the user's words, or a text with places."""
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


def _opened(path: Path) -> Any:
    from apportion.models.inputs import as_image

    return as_image(path)


def as_regions(regions: str | None, mask: Path | None) -> Any:
    """How images are divided.

    Raises:
        ApportionError: Both are given, the name is unknown, or the mask cannot be read.
    """
    if mask is None:
        from apportion.models.inputs import check_regions

        chosen: Any = "patches" if regions is None else regions
        chosen = int(chosen) if isinstance(chosen, str) and chosen.isdecimal() else chosen
        check_regions(chosen)
        return chosen
    if regions is not None:
        raise ApportionError("--regions and --regions-mask were both given; give one.")
    import numpy

    colours = numpy.asarray(_opened(mask)).astype(numpy.int64)
    coded = (colours[..., 0] * 256 + colours[..., 1]) * 256 + colours[..., 2]
    numbers = numpy.unique(coded, return_inverse=True)[1].reshape(coded.shape)
    if numbers.max() >= MANY_REGIONS:
        raise ApportionError(
            f"{str(mask)!r} has {numbers.max() + 1} colours, as a photograph has; in a mask each region is one colour."
        )
    return numbers


def prompt_text(text: str | None, file: Path | None) -> str:
    """The prompt's text from where the user has it; of a file or a pipe, the newline at its end is left off."""
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
        # Either reading would be a guess, and its heat map would look right.
        raise ApportionError(
            f"{text!r} is a file here: give --file {text} to explain what it holds, or pipe the name itself into -."
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


def as_target(
    targets: list[str] | None, span: str | None, *, contrast: list[str] | None, unit: Unit, position: str | None
) -> Any:
    """What `explain` takes as its target."""
    if span is None:
        return targets[0] if targets and len(targets) == 1 else targets or None
    if targets or contrast or position is not None or unit is not Unit.LOGIT:
        raise ApportionError(
            "--span is explained by its log-probability, alone: leave out --target, --contrast, --unit and --position."
        )
    from apportion import Span

    return Span(span)


def as_place(position: str | None) -> int | str | None:
    """A position as an index where it is one, else as a token's text."""
    try:
        return None if position is None else int(position)
    except ValueError:
        return position


def as_methods(
    names: Sequence[str], layers: Sequence[str], plugins: Sequence[Path] | None = None
) -> dict[str, apportion.Method]:
    """The methods of these names, with other methods' rules from some layers upwards, by what they are called."""
    from apportion.methods import Propagation, as_method

    load_plugins(plugins)
    for name in names:
        if names.count(name) > 1:
            raise ApportionError(f"the method {name!r} is given twice.")

    def propagation(name: str) -> Propagation:
        method = as_method(name)
        if not isinstance(method, Propagation) or type(method).rules is not Propagation.rules:
            raise ApportionError(f"--from-layer is for methods that follow rules of operations; {name!r} does not.")
        return method

    if not layers:
        return {name: as_method(name) for name in names}
    composites = [propagation(name).composite for name in names]
    for given in layers:
        layer, _, other = given.partition(":")
        if not layer.isdecimal() or not other:
            raise ApportionError(f"--from-layer {given!r} is not of the form N:METHOD, such as 6:cp-lrp.")
        composites = [c.from_layer(int(layer), propagation(other).composite) for c in composites]
    return {composite.name: as_method(composite) for composite in composites}


def method_by_default(explainer: apportion.Explainer, regions: Any = "patches") -> apportion.Method:
    """What explains this model's reading of an image unless a method is named."""
    from apportion.methods import default_method

    at_tokens = isinstance(regions, str) and regions == "visual-tokens"
    return default_method(explainer.model, pixels=not at_tokens)


def load_plugins(plugins: Sequence[Path] | None) -> None:
    """Run the user's own files, so that what they register can be named."""
    from apportion.methods import load_plugin

    for path in plugins or ():
        load_plugin(path)


def as_pair(texts: Sequence[str], images: Sequence[Path]) -> Any:
    """Two texts, two images, or one of each, as the explainer takes them; an image stands first.

    Raises:
        ApportionError: There are fewer or more than two, or a file is missing or no picture.
    """
    if len(texts) + len(images) != 2:
        raise ApportionError(
            f"a pair is two texts, two images, or one of each; {len(texts)} texts and {len(images)} images were given."
        )
    from apportion import Pair

    return Pair(*(_opened(path) for path in images), *(prompt_text(text, None) for text in texts))


def loaded_explainer(
    model: str, *, dtype: str, device: str, quiet: bool = False, pooling: Any = None, encoder: bool = False
) -> apportion.Explainer:
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as transformers_logging

    from apportion import load

    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        transformers_logging.set_verbosity_error()
    if "HF_HUB_VERBOSITY" not in os.environ:
        hub_logging.set_verbosity_error()
    local = Path(model).is_dir()
    if not (local or quiet or model == "demo" or model.startswith((".", "/"))):
        note(f"looking for {model!r} in the Hugging Face hub's cache and on the hub …")
    # A download and the demo's conversion show their own progress.
    with waiting("loading the model", quiet=quiet or not local):
        return load(model, dtype=dtype, device=device, pooling=pooling, encoder=encoder)
