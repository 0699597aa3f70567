"""Data: the items behind what a user names, such as a benchmark, a file, or texts."""

from __future__ import annotations

import difflib
import inspect
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor

from apportion.core import ApportionError, options_in
from apportion.engine import Engine
from apportion.evaluation._item import Item
from apportion.evaluation._item_files import read_items, read_texts, texts_of


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Where named data come from.

    Args:
        folder: The part of `apportion.evaluation` whose `items_of` puts to a model what the maker yields.
        maker: Its function that makes them, or reads them from a path.
        reads: Whether it wants a path.
    """

    folder: str
    maker: str
    reads: bool = True


_SOURCES = {
    "agreement": _Source(folder="agreement", maker="agreement_sentences", reads=False),
    "qa": _Source(folder="questions", maker="questions", reads=False),
    "blimp": _Source(folder="agreement", maker="blimp"),
    "lm-syneval": _Source(folder="agreement", maker="lm_syneval"),
    "linzen": _Source(folder="agreement", maker="linzen"),
    "squad": _Source(folder="questions", maker="squad"),
}
#: How each is written, for errors and the command line's help.
DATA = tuple(f"{name}:PATH" if source.reads else name for name, source in _SOURCES.items())
_FILES = {".jsonl": read_items, ".ndjson": read_items, ".txt": read_texts}
_SHOWN = 60
_NAME = re.compile(r"(?P<name>[\w-]+)\s*(?P<options>\(.*?\))?(?::(?P<path>.+))?", re.DOTALL)


def as_data(data: Any, engine: Engine, *, seed: int = 0) -> Iterable[Item]:
    """The items behind texts, items, a benchmark's name or a file's path.

    Args:
        data: A name: `"agreement"` or `"qa"`, generated; `"blimp:PATH"`, `"lm-syneval:PATH"`, `"linzen:PATH"` or
            `"squad:PATH"`; each with options where wanted, such as `"agreement(attractors=2)"`. A file: `.jsonl`, with
            an item a line (`read_items`), or `.txt`, with a text a line; `"-"` reads texts from standard input. Or an
            iterable of `Item`s, texts, chats, lists of token ids or dicts of the model's inputs.
        engine: Of the model, since a benchmark takes only what fits the model's tokenizer.
        seed: Of what is drawn.

    Returns:
        A list for a list; otherwise a stream, whose items are made or read as they are asked for.

    Raises:
        ApportionError: There are no such data, an option does not fit, or something in a list is not a prompt; from
            the stream, a file turns out to be empty or malformed.
    """
    if isinstance(data, str):
        return _of_name(data, engine, seed)
    if isinstance(data, os.PathLike):
        return _of_file(os.fspath(data))
    return _of_prompts(data)


def _of_name(text: str, engine: Engine, seed: int) -> Iterator[Item]:
    if text == "-":
        return texts_of(enumerate(sys.stdin, 1), "stdin")
    match = _NAME.fullmatch(text.strip())
    if match is None or match["name"] not in _SOURCES:
        return _of_file(text)
    name, source, path = match["name"], _SOURCES[match["name"]], match["path"]
    if source.reads and not path:
        raise ApportionError(f"the data {name!r} are read from a file or folder; give its path: '{name}:PATH'.")
    if path and not source.reads:
        raise ApportionError(f"the data {name!r} are generated and take no path; leave out {':' + path!r}.")
    folder = import_module(f"apportion.evaluation.{source.folder}")
    make, items_of = getattr(folder, source.maker), folder.items_of
    of_make, of_items = _options_of(make), _options_of(items_of)
    options = options_in(f"data{match['options']}", example=f"{name}(count=100)") if match["options"] else {}
    _check_options(name, options, of_make | of_items)
    given = (path,) if path else ()
    drawn = {} if source.reads else {"seed": seed}
    made = make(*given, **drawn, **{key: value for key, value in options.items() if key in of_make})
    return items_of(made, engine, **{key: value for key, value in options.items() if key in of_items})


def _options_of(function: Any) -> dict[str, Any]:
    """The defaults of a function's options; the seed is not one of them."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "seed"}


def _check_options(name: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for option, value in given.items():
        if option not in known:
            fits = f"the options are {', '.join(known)}" if known else "there are none"
            raise ApportionError(f"the data {name!r} have no option {option!r}; {fits}.")
        default = known[option]
        if isinstance(default, bool | int | str) and type(value) is not type(default):
            raise ApportionError(f"{option}={value!r} does not fit; give a value like {option}={default!r}.")


def _of_file(path: str) -> Iterator[Item]:
    kind = os.path.splitext(path)[1].lower()
    # Unlike Path's, os.path's functions call it no file where the name is too long for one, as a text may be.
    if os.path.isfile(path) and kind in _FILES:
        return _FILES[kind](path)
    if os.path.exists(path):
        hint = " SQuAD's format is read by squad:PATH." if kind == ".json" else ""
        raise ApportionError(
            f"{path!r} is no file of a known kind; give .jsonl with an item a line, .txt with a text a line, or one of "
            f"{', '.join(DATA)}.{hint}"
        )
    shown = path if len(path) <= _SHOWN else f"{path[:_SHOWN]}…"
    close = difflib.get_close_matches(re.split(r"[:(]", shown)[0], _SOURCES, n=1)
    meant = f"did you mean {close[0]!r}? Else give" if close else "give"
    raise ApportionError(
        f"there are no data {shown!r}, and no such file; {meant} {', '.join(DATA)}, a .jsonl or .txt file, or a list "
        "of texts."
    )


def _of_prompts(data: Any) -> Iterable[Item]:
    if isinstance(data, Item | Mapping | Tensor) or not isinstance(data, Iterable):
        raise ApportionError(
            f"the data are a {type(data).__name__}; give a list of items, texts, chats or token ids, or a name: "
            f"{', '.join(DATA)}."
        )
    items = (_of_prompt(k, one) for k, one in enumerate(data))
    return list(items) if isinstance(data, list | tuple) else items


def _of_prompt(k: int, one: Any) -> Item:
    if isinstance(one, Item):
        return one
    if isinstance(one, int) or (isinstance(one, Mapping) and "role" in one):
        what = "token ids" if isinstance(one, int) else "messages"
        raise ApportionError(
            f"the data are one list of {what}, which is a single prompt; put it into a list: [prompt]."
        )
    if isinstance(one, Mapping) and not {"input_ids", "inputs_embeds"} & set(one):
        raise ApportionError(
            f"number {k} of the data is a dict with {', '.join(map(repr, one))}; give its text, or the model's inputs."
        )
    return Item(id=str(k), prompt=one)
