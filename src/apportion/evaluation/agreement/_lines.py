"""Lines of benchmark files, each with the place that an error names."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from apportion.core import ApportionError


def lines_of(files: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """The lines of text files, one at a time, each after its place: the file and the number of the line.

    Raises:
        ApportionError: A file cannot be read, or is not UTF-8.
    """
    for file in files:
        number = 0
        try:
            with (
                gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as all_
            ):
                for number, line in enumerate(all_, 1):
                    yield f"{file}:{number}", line.rstrip("\n")
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise ApportionError(f"{file}:{number + 1} cannot be read: {error}.") from error


def records_of(files: Sequence[Path], fields: Mapping[str, type]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON objects of files with one a line, each after its place; empty lines are passed over.

    Args:
        files: Read in this order.
        fields: What each object must have, and of which type.

    Raises:
        ApportionError: A line is not a JSON object, or a field is missing or of another type.
    """
    for where, line in lines_of(files):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ApportionError(f"{where} is not JSON: {error}.") from error
        if not isinstance(record, dict):
            raise ApportionError(f"{where} holds a {type(record).__name__}; each line must be a JSON object.")
        for field, kind in fields.items():
            if not isinstance(record.get(field), kind):
                given = f"is {record[field]!r}" if field in record else "is missing"
                raise ApportionError(f"{where}: the field {field!r} {given}; it must be of type {kind.__name__}.")
        yield where, record


def files_at(path: Path, pattern: str) -> list[Path]:
    """A file, or the files of a folder whose names fit a pattern.

    Raises:
        ApportionError: There are none.
    """
    if path.is_file():
        return [path]
    found = sorted(file for file in path.glob(pattern) if file.is_file()) if path.is_dir() else []
    if not found:
        what = f"holds no file {pattern}" if path.is_dir() else "does not exist"
        raise ApportionError(f"{path} {what}; give the benchmark's file, or its folder.")
    return found
