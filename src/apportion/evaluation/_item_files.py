"""Files of items and of texts: a benchmark of one's own, read one line at a time."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from apportion.core import ApportionError
from apportion.evaluation._item import Item, Region
from apportion.models.inputs import as_image, check_regions, names_picture
from apportion.targets import UNITS, Span

_FIELDS = [field.name for field in fields(Item)]


def read_items(path: str | os.PathLike[str]) -> Iterator[Item]:
    """The items of a file of JSON lines, read as they are asked for.

    Every line is an object with the fields of `Item`; only `prompt` must be there. A target is a token's or class's
    name or id, or `{"span": text or ids, "unit": unit}` for a `Span`. A place of `truth` is `[start, end]`, or a text
    that occurs once in the prompt. Without an `id`, an item is called by its file and line.

    A picture is named by its file, `"cat.png"` or `{"image": "cat.png", "text": …}`, and so is the mask that is the
    truth of one (white where the cause is seen); files are looked for beside this one first.

    Args:
        path: The file, UTF-8; empty lines are passed over.

    Raises:
        ApportionError: A line is not such an object, or the file has none; the message names file and line.
    """
    path = Path(path)
    found = False
    for number, line in numbered_lines(path):
        found = True
        try:
            yield _item(_with_pictures(_record(line), path.parent), default_id=f"{path.name}:{number}")
        except ApportionError as error:
            raise ApportionError(f"{path}, line {number}: {error}") from error
    if not found:
        raise ApportionError(f"{str(path)!r} holds no items; write a JSON object a line.")


def read_texts(path: str | os.PathLike[str]) -> Iterator[Item]:
    """The texts of a file, one a line, each to be explained for its most likely output.

    Args:
        path: The file, UTF-8; empty lines are passed over. An item is called by its file and line.

    Raises:
        ApportionError: The file cannot be read, or has no text.
    """
    path = Path(path)
    return texts_of(numbered_lines(path), path.name)


def texts_of(lines: Iterable[tuple[int, str]], name: str) -> Iterator[Item]:
    """Texts as items, each called by where it comes from and its line.

    Args:
        lines: Texts after their line's number; empty ones are passed over.
        name: Of where they come from.
    """
    found = False
    for number, line in lines:
        if line.strip():
            found = True
            yield Item(id=f"{name}:{number}", prompt=line.rstrip("\r\n"))
    if not found:
        raise ApportionError(f"{name!r} holds no text; write one a line.")


def write_items(items: Iterable[Item], path: str | os.PathLike[str]) -> int:
    """Keep items in a file that `read_items` reads; it appears when it is whole.

    Args:
        items: Gone through once, so it may be a stream.
        path: The file, JSON lines; what stood there before is replaced.

    Returns:
        How many items were written.

    Raises:
        ApportionError: An item holds what a file cannot, such as a target that is a function; two items have the same
            id; or the folder does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise ApportionError(f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}.")
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    ids: set[str] = set()
    try:
        with partial.open("w", encoding="utf-8") as file:
            for item in items:
                if item.id in ids:
                    raise ApportionError(f"two items are called {item.id!r}; give each an id of its own.")
                ids.add(item.id)
                file.write(json.dumps(_written(item), ensure_ascii=False) + "\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return len(ids)


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """A file's lines that are not empty, each after its number.

    Raises:
        ApportionError: The file cannot be read, or is not UTF-8.
    """
    number = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.rstrip("\n")
    except OSError as error:
        raise ApportionError(f"cannot read {str(path)!r}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ApportionError(f"{path} is not UTF-8 text, from about line {number + 1} on; convert it.") from error


def _record(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ApportionError(f"this is not JSON ({error}).") from error
    if not isinstance(record, dict):
        raise ApportionError(
            f"this is a {type(record).__name__}; write a JSON object such as {{'prompt': 'The keys'}}."
        )
    for name in record:
        if name not in _FIELDS:
            close = difflib.get_close_matches(name, _FIELDS, n=1)
            meant = f"did you mean {close[0]!r}? The" if close else "the"
            raise ApportionError(f"an item has no field {name!r}; {meant} fields are {', '.join(_FIELDS)}.")
    return record


def _item(record: Mapping[str, Any], *, default_id: str) -> Item:
    prompt = _prompt(record.get("prompt"))
    name = record.get("id", default_id)
    _check("id", name, _is_output(name), "a text or a number")
    item = Item(
        id=str(name),
        prompt=prompt,
        target=_target(record.get("target")),
        contrast=_contrast(record.get("contrast")),
        unit=record.get("unit", "logit"),
        position=record.get("position"),
        truth=_truth(prompt, record.get("truth", [])),
        regions=record.get("regions", "patches"),
        groups=_groups(record.get("groups", {})),
    )
    _check("position", item.position, item.position is None or _is_output(item.position), "a number or a word")
    _check("unit", item.unit, item.unit in UNITS, " or ".join(map(repr, UNITS)))
    _check(
        "regions", item.regions, _is_output(item.regions), "'patches', 'pixels', 'visual-tokens' or a side in pixels"
    )
    check_regions(item.regions)
    # Refuses what does not go together, such as a Span and a contrast.
    _ = item.asked
    return item


def _with_pictures(record: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A record whose names of picture files are paths from here."""
    prompt, truth = record.get("prompt"), record.get("truth")
    if isinstance(prompt, dict):
        prompt = {name: _beside(value, folder) for name, value in prompt.items()}
    else:
        prompt = _beside(prompt, folder)
    return {**record, "prompt": prompt, **({} if truth is None else {"truth": _beside(truth, folder)})}


def _beside(name: Any, folder: Path) -> Any:
    if isinstance(name, list):
        return [_beside(one, folder) for one in name]
    return str(folder / name) if isinstance(name, str) and names_picture(name) and (folder / name).exists() else name


def _truth(prompt: Any, truth: Any) -> Any:
    """Places in a text, or the mask in a picture's file."""
    if isinstance(truth, str) and names_picture(truth):
        return np.asarray(as_image(truth).convert("L")) > 127
    return tuple(_region(prompt, place) for place in _listed("truth", truth))


def _check(field: str, value: Any, fits: bool, what: str) -> None:
    if not fits:
        raise ApportionError(f"the field {field!r} is {value!r}; give {what}.")


def _is_output(value: Any) -> bool:
    """Whether JSON has a name or an id here; `true` counts as a number in Python, but names nothing."""
    return isinstance(value, str | int) and not isinstance(value, bool)


def _prompt(prompt: Any) -> Any:
    is_list = isinstance(prompt, list) and bool(prompt)
    chat = is_list and all(isinstance(one, dict) and {"role", "content"} <= set(one) for one in prompt)
    ids = is_list and all(isinstance(one, int) and not isinstance(one, bool) for one in prompt)
    mixed = isinstance(prompt, dict) and bool(prompt) and set(prompt) <= {"text", "image", "images"}
    if not (isinstance(prompt, str) or chat or ids or mixed):
        given = "is missing" if prompt is None else f"is {prompt!r}"
        raise ApportionError(
            f"the field 'prompt' {given}; give a text, a list of chat messages, a list of token ids, or a "
            "picture's file."
        )
    return prompt


def _target(target: Any) -> Any:
    if target is None or _is_output(target):
        return target
    if not isinstance(target, dict) or "span" not in target or not set(target) <= {"span", "unit"}:
        raise ApportionError(
            f"the field 'target' is {target!r}; give a token or class (text or id), or {{'span': ' a continuation'}}."
        )
    text = target["span"]
    if not isinstance(text, str):
        _check("span", text, isinstance(text, list) and all(type(one) is int for one in text), "a text or token ids")
        text = tuple(text)
    return Span(text, target.get("unit", "log-probability"))


def _contrast(contrast: Any) -> str | int | tuple[str | int, ...] | None:
    several = isinstance(contrast, list) and all(_is_output(one) for one in contrast)
    _check("contrast", contrast, contrast is None or _is_output(contrast) or several, "an output, or a list of outputs")
    return tuple(contrast) if several else contrast


def _listed(field: str, value: Any) -> list[Any]:
    _check(field, value, isinstance(value, list), "a list")
    return value


def _region(prompt: Any, place: Any) -> Region:
    """A place in the prompt, given by its characters or by its text."""
    if isinstance(place, str):
        times = prompt.count(place) if isinstance(prompt, str) and place else 0
        if times != 1:
            raise ApportionError(
                f"the truth {place!r} occurs {times} times in the prompt; give its place as [start, end]."
            )
        start = prompt.index(place)
        return start, start + len(place)
    numbers = isinstance(place, list) and len(place) == 2 and all(type(number) is int for number in place)
    _check("truth", place, numbers, "places [start, end], or texts that occur once in the prompt")
    start, end = place
    last = len(prompt) if isinstance(prompt, str) else end
    if not 0 <= start < end <= last:
        raise ApportionError(f"the truth {place!r} is no place in the prompt, which has {last} characters.")
    return start, end


def _groups(groups: Any) -> dict[str, str | int | bool]:
    fits = isinstance(groups, dict) and all(isinstance(value, str | int) for value in groups.values())
    _check("groups", groups, fits, "an object of texts, whole numbers, true or false")
    return groups


def _written(item: Item) -> dict[str, Any]:
    """An item as JSON has it; what is as it would be anyway is left out."""
    written: dict[str, Any] = {"id": item.id, "prompt": _prompt_written(item), **_target_written(item)}
    if item.mask is not None:
        raise ApportionError(
            f"the item {item.id!r} cannot be written, its truth is a mask; keep that as a picture and name its file."
        )
    if not isinstance(item.regions, str | int):
        raise ApportionError(f"the item {item.id!r} cannot be written, its regions are a map; a file holds names.")
    if item.regions != "patches":
        written["regions"] = item.regions
    if item.truth:
        written["truth"] = [list(region) for region in item.truth]
    if item.groups:
        written["groups"] = dict(item.groups)
    return written


def _prompt_written(item: Item) -> Any:
    try:
        found = _prompt(list(item.prompt) if isinstance(item.prompt, tuple) else item.prompt)
        json.dumps(found)  # which may hold a picture
        return found
    except (ApportionError, TypeError) as error:
        raise ApportionError(
            f"the item {item.id!r} cannot be written, its prompt is a {type(item.prompt).__name__}; a file holds "
            "texts, chats, lists of token ids and the names of pictures' files."
        ) from error


def _target_written(item: Item) -> dict[str, Any]:
    written = item.asked.to_dict()
    if written is None:
        raise ApportionError(
            f"the item {item.id!r} cannot be written, since its target is a function; name an output or give a Span."
        )
    if item.target is None or _is_output(item.target):
        written["contrast"] = item.contrast
    default = {"target": None, "contrast": None, "unit": "logit", "position": None}
    return {name: value for name, value in written.items() if value != default[name]}
