"""Rows: one for each item and method, in a file that a run appends to and that another run can take up."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one method came to on one item.

    Args:
        item: The item's id.
        method: As the run calls it.
        groups: The item's groups.
        correct: Whether the model is right about the item; None where nothing was named.
        explained: The target's value.
        players: How many parts of the prompt can be absent.
        values: By column of the measures; None where a number is not defined.
        curves: The columns that are lists.
        forward: Forward passes that the method took, in examples.
        backward: Backward passes.
        seconds: By the clock; the only entry that another run does not repeat.
        refused: Why the method, or the item, has no numbers.
    """

    item: str
    method: str
    groups: Mapping[str, Any] = field(default_factory=dict)
    correct: bool | None = None
    explained: float | None = None
    players: int | None = None
    values: Mapping[str, float | None] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    forward: float | None = None
    backward: float | None = None
    seconds: float | None = None
    refused: str | None = None


class Rows:
    """The rows of a run, item by item: an item's rows are there all together or not at all.

    Args:
        path: The file, JSON lines; it need not exist yet.
        methods: What each item has a row of, in this order.
    """

    def __init__(self, path: Path, methods: Sequence[str]) -> None:
        self.path, self.methods = path, tuple(methods)

    def __iter__(self) -> Iterator[Row]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for line in file:
                yield Row(**json.loads(line))

    def items_done(self) -> set[str]:
        """The items whose rows are there; what an interrupted run left of another item is cut off."""
        if not self.path.exists():
            return set()
        done: set[str] = set()
        end = 0
        with self.path.open("rb") as file:
            while block := [line for _ in self.methods if (line := file.readline())]:
                if len(block) < len(self.methods) or not block[-1].endswith(b"\n"):
                    break
                done.add(json.loads(block[0])["item"])
                end = file.tell()
        os.truncate(self.path, end)
        return done

    def append(self, rows: Sequence[Row]) -> None:
        """Add the rows of one item."""
        assert [row.method for row in rows] == list(self.methods)
        block = "".join(json.dumps(asdict(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        with self.path.open("ab") as file:
            file.write(block.encode())
