"""Rows: one for each item and method, in a file that a run appends to and that another run can take up."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from apportion.core import ApportionError

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one method came to on one item.

    Args:
        item: The item's id.
        method: As the run calls it.
        fingerprint: What tells whether an item of the same id is the same item.
        groups: The item's groups.
        correct: Whether the model is right about the item; None where nothing was named.
        explained: The target's value.
        players: How many parts of the prompt can be absent.
        values: By column of the measures; None where a number is not defined.
        curves: The columns that are lists.
        forward: Forward passes that the method took, in examples.
        backward: Backward passes.
        seconds: By the clock; the only entry that another run does not repeat.
        refused: Why the method, the item, or some of the measures have no numbers.
    """

    item: str
    method: str
    fingerprint: str | None = None
    groups: Mapping[str, Any] = field(default_factory=dict)
    correct: bool | None = None
    explained: float | None = None
    players: int | None = None
    values: Mapping[str, float | None] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    forward: float | None = None
    backward: float | None = None
    seconds: float | None = None
    refused: str | None = None


class Rows:
    """The rows of a run, item by item: an item's rows are there all together or not at all.

    What an interrupted run left of an item is passed over, and cut off by the next run.

    Args:
        path: The file, JSON lines; it need not exist yet.
        methods: What each item has a row of, in this order.
    """

    def __init__(self, path: Path, methods: Sequence[str]) -> None:
        self.path = path
        self.methods: tuple[str, ...] = tuple(methods)

    def __iter__(self) -> Iterator[Row]:
        """Each row, read from the file as it is gone through.

        Raises:
            ApportionError: A line is damaged.
        """
        for lines, _ in self._by_item():
            yield from self._read(lines)

    def items(self) -> Iterator[tuple[str, str | None]]:
        """The items that are there, in order: the id, and what the item was."""
        for lines, _ in self._by_item():
            first, *_ = self._read(lines)
            yield first.item, first.fingerprint

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the rows, so that no other process adds any until this one leaves the block or ends.

        Raises:
            ApportionError: Another run adds rows.
        """
        with self.path.open("ab") as file:
            _lock(file, self.path)
            yield

    def cut_torn_end(self) -> None:
        """Leave only what `items` finds."""
        os.truncate(self.path, max((end for _, end in self._by_item()), default=0))

    def append(self, rows: Sequence[Row]) -> None:
        """Add the rows of one item."""
        assert [row.method for row in rows] == list(self.methods)
        block = "".join(json.dumps(vars(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        with self.path.open("ab") as file:
            file.write(block.encode(errors="surrogatepass"))

    def _by_item(self) -> Iterator[tuple[list[bytes], int]]:
        """The lines of each item, and the byte where they end."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            while lines := [line for _ in self.methods if (line := file.readline())]:
                if len(lines) < len(self.methods) or not lines[-1].endswith(b"\n"):
                    return
                yield lines, file.tell()

    def _read(self, lines: Sequence[bytes]) -> list[Row]:
        try:
            rows = [Row(**json.loads(line)) for line in lines]
        except (ValueError, TypeError) as error:
            raise ApportionError(
                f"{str(self.path)!r} is damaged ({error}) at {lines[0][:60]!r}…; begin again in another folder."
            ) from error
        if tuple(row.method for row in rows) != self.methods or len({row.item for row in rows}) != 1:
            raise ApportionError(
                f"{str(self.path)!r} lacks rows of the item {rows[0].item!r}; begin again in another folder."
            )
        return rows


def _lock(file: BinaryIO, path: Path) -> None:
    # Windows has no fcntl; there, that only one run adds rows is the user's to see to.
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ApportionError(
            f"another run is writing to {str(path.parent)!r}; wait until it is done, or give another folder."
        ) from error
