"""What was asked, as the library takes it: prompt, target, methods, model."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apportion._errors import ApportionError
from apportion.cli._app import note, waiting
from apportion.cli._options import Unit

if TYPE_CHECKING:
    import apportion


def prompt_text(text: str | None, file: Path | None) -> str:
    """The prompt's text from where the user has it; of a file or a pipe, the newline at its end is left off."""
    if (text is None) == (file is None):
        given = "no prompt was given" if text is None else "a text and --file were both given"
        raise ApportionError(f"{given}; give a text, - for standard input, or --file PATH.")
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
        if not isinstance(method, Propagation):
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


def load_plugins(plugins: Sequence[Path] | None) -> None:
    """Run the user's own files, so that what they register can be named."""
    from apportion.methods import load_plugin

    for path in plugins or ():
        load_plugin(path)


def loaded_explainer(model: str, *, dtype: str, device: str, quiet: bool = False) -> apportion.Explainer:
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
        return load(model, dtype=dtype, device=device)
