"""Saving results as safetensors files with a JSON header, and as JSON-ready values."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from itertools import count, repeat
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from apportion.core import _errors
from apportion.core._errors import ApportionError
from apportion.core._files import write_atomically

#: The key of the header in a file's metadata, and the newest format. A new field with a default needs no new version.
KEY, VERSION = "apportion-result", 1
# Marks a tensor in the header.
TENSOR = "$tensor"

S = TypeVar("S", bound="Saved")


class Saved:
    """A frozen dataclass that can be saved to a file.

    Its fields are tensors, JSON-ready values, errors, other dataclasses, and tuples and mappings of these. A field with
    `metadata={"saved": False}` is not saved.
    """

    def to_dict(self) -> dict[str, Any]:
        """All fields except pictures as JSON-ready values."""
        return {f.name: plain(getattr(self, f.name)) for f in _written(type(self)) if f.name != "pictures"}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a safetensors file with a JSON header in its metadata, completely or not at all."""
        return write(path, self)

    @classmethod
    def load(cls: type[S], path: str | os.PathLike[str]) -> S:
        """Read a file that `save` wrote.

        Raises:
            ApportionError: The file is missing, holds something else, or was written by a newer version.
        """
        return read(path, cls)


def write(path: str | os.PathLike[str], result: Saved) -> Path:
    """Write a result; see `Saved.save`."""
    tensors: dict[str, Tensor] = {}
    header = {"version": VERSION, "kind": type(result).__name__, "value": _encoded(result, "", tensors)}
    write_atomically(Path(path), safetensors.torch.save(tensors, metadata={KEY: json.dumps(header)}))
    return Path(path)


def read(path: str | os.PathLike[str], kind: type[S], **unsaved: Any) -> S:
    """Read a result of a kind; see `Saved.load`. `unsaved` are the values of fields that are not saved."""
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except FileNotFoundError as error:
        raise ApportionError(f"there is no file {str(path)!r}.") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise ApportionError(f"{str(path)!r} holds no {kind.__name__}: not a safetensors file ({error}).") from error
    if KEY not in metadata:
        raise ApportionError(f"{str(path)!r} holds no result; give one that {kind.__name__}.save wrote.")
    header = json.loads(metadata[KEY])
    version, held = header["version"], header["kind"]
    if version > VERSION:
        raise ApportionError(
            f"{str(path)!r} has format {version}; this apportion reads up to {VERSION}: update apportion."
        )
    if held != kind.__name__:
        raise ApportionError(f"{str(path)!r} holds {held}, not {kind.__name__}; read it with {held}.load.")
    return kind(**_fields_of(header["value"], kind, tensors), **unsaved)


def plain(value: Any) -> Any:
    """A JSON-ready value: tensors and tuples as lists, dataclasses and mappings as dictionaries."""
    if isinstance(value, Tensor):
        return value.tolist()
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in _written(type(value))}
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [plain(part) for part in value]
    return str(value) if isinstance(value, Exception) else value


def _written(kind: type) -> list[Field[Any]]:
    return [f for f in fields(kind) if f.metadata.get("saved", True)]


def _encoded(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """A JSON-ready value; its tensors are collected in `tensors`, named by their place in the result."""
    if isinstance(value, Tensor):
        free = next(n for k in count() if (n := f"{name}#{k}" if k else name) not in tensors)
        # A copy, since the tensors of a file must not share memory.
        tensors[free] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {TENSOR: free}
    if isinstance(value, ApportionError):
        return [type(value).__name__, str(value)]
    if is_dataclass(value):
        parts: Mapping[Any, Any] = {f.name: getattr(value, f.name) for f in _written(type(value))}
    elif isinstance(value, Mapping):
        parts = value
    elif isinstance(value, tuple | list):
        return [_encoded(part, f"{name}.{k}", tensors) for k, part in enumerate(value)]
    elif value is None or isinstance(value, str | int | float):
        return value
    else:
        raise ApportionError(f"{name} is a {type(value).__name__}, which a file cannot hold; give JSON-ready values.")
    return {str(key): _encoded(part, f"{name}.{key}".lstrip("."), tensors) for key, part in parts.items()}


def _decoded(value: Any, hint: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `_encoded`, by the field's type hint."""
    if value is None:
        return None
    if isinstance(value, dict) and TENSOR in value:
        return tensors[value[TENSOR]]
    inner = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        kinds = [kind for kind in inner if kind is not NoneType]
        return _decoded(value, kinds[0] if len(kinds) == 1 else Any, tensors)
    if isinstance(hint, type) and is_dataclass(hint):
        return hint(**_fields_of(value, hint, tensors))
    if isinstance(hint, type) and issubclass(hint, ApportionError):
        return getattr(_errors, value[0], ApportionError)(value[1])
    if isinstance(value, dict):
        key = int if inner and inner[0] is int else str
        return {key(name): _decoded(part, inner[1] if inner else Any, tensors) for name, part in value.items()}
    if isinstance(value, list):
        alike = Ellipsis in inner or len(inner) < 2
        hints = repeat(inner[0] if inner else Any) if alike else inner
        parts = [_decoded(part, kind, tensors) for part, kind in zip(value, hints, strict=False)]
        return tuple(parts) if get_origin(hint) is tuple else parts
    return value


def _fields_of(value: Mapping[str, Any], kind: type, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {name: _decoded(part, hints[name], tensors) for name, part in value.items()}
