"""Files: written whole or not at all, and results as safetensors with a JSON header."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from apportion.core._errors import ApportionError
from apportion.core._picture import Picture


def write_result(
    path: str | os.PathLike[str],
    key: str,
    header: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    pictures: Sequence[Picture] = (),
) -> Path:
    """Write one safetensors file whose metadata is a JSON header.

    Args:
        path: Of the file.
        key: Under which the metadata hold the header: what kind of result it is.
        header: JSON-ready, with the format's `"version"`.
        tensors: By name.
        pictures: Images that the result's features are parts of.
    """
    named = {name: tensor.contiguous() for name, tensor in tensors.items()}
    for i, picture in enumerate(pictures):
        named[f"pictures.{i}.pixels"] = picture.pixels.contiguous()
        named[f"pictures.{i}.owner"] = picture.owner.contiguous()
    told = json.dumps({**header, "pictures": [picture.label for picture in pictures]})
    write_atomically(Path(path), safetensors.torch.save(named, metadata={key: told}))
    return Path(path)


def read_result(
    path: str | os.PathLike[str], key: str, *, version: int, what: str, by: str
) -> tuple[dict[str, Any], dict[str, Tensor], tuple[Picture, ...]]:
    """The header, tensors and pictures of a file that `write_result` wrote.

    Args:
        path: Of the file.
        key: As it was written.
        version: The newest format that can be read.
        what: The kind of result, for errors, such as `"an attribution"`.
        by: What writes it, such as `"Attribution.save"`.

    Raises:
        ApportionError: The file is missing, is of another kind, or was written by a newer version.
    """
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except FileNotFoundError as error:
        raise ApportionError(f"there is no file {str(path)!r}.") from error
    except safetensors.SafetensorError as error:
        raise ApportionError(f"{str(path)!r} is not {what}: it is not a safetensors file ({error}).") from error
    if key not in metadata:
        raise ApportionError(f"{str(path)!r} is a safetensors file but not {what}; give one that {by} wrote.")
    header = json.loads(metadata[key])
    if header["version"] > version:
        raise ApportionError(
            f"{str(path)!r} has format {header['version']}; this apportion reads up to {version}: update apportion."
        )
    pictures = tuple(
        Picture(pixels=tensors.pop(f"pictures.{i}.pixels"), owner=tensors.pop(f"pictures.{i}.owner"), label=label)
        for i, label in enumerate(header.get("pictures", ()))
    )
    return header, tensors, pictures


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: first beside it under another name, then renamed."""
    if not path.parent.is_dir():
        raise ApportionError(f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}.")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # mkstemp makes the file private; give it the rights that an ordinary new file would have.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
