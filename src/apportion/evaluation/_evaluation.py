"""An evaluation: what the measures of a run came to, over all its items."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apportion._errors import ApportionError
from apportion.evaluation._measure import Column
from apportion.evaluation._rows import Row, Rows

#: The files of a run's folder.
SETTINGS, ROWS = "run.json", "rows.jsonl"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of a run, read from its folder as it is asked for.

    Args:
        path: The run's folder.
        settings: What was measured, and how, JSON-ready.
        keep_alive: The temporary folder behind `path`, where the user named none; it goes when the result does.
    """

    path: Path
    settings: dict[str, Any]
    keep_alive: Any = field(default=None, repr=False, compare=False)

    @classmethod
    def load(cls, path: str | Path) -> Evaluation:
        """Read a run's folder, also one that is not finished.

        Raises:
            ApportionError: It is not the folder of a run.
        """
        path = Path(path)
        try:
            settings = json.loads((path / SETTINGS).read_text())
        except OSError as error:
            raise ApportionError(f"{str(path)!r} is not the folder of an evaluation: it has no {SETTINGS}.") from error
        return cls(path=path, settings=settings)

    @property
    def methods(self) -> list[str]:
        """The methods, as tables call them; the last is the random order."""
        return list(self.settings["methods"])

    @property
    def columns(self) -> list[Column]:
        """What was measured."""
        return [Column(**column) for column in self.settings["columns"]]

    @property
    def rows(self) -> Rows:
        """The rows, read from the file as they are gone through."""
        return Rows(self.path / ROWS, self.methods)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)
