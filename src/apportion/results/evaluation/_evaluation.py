"""An evaluation: what the measures of a run came to, over all its items."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apportion.core import ApportionError, Shown, written_whole
from apportion.results.evaluation import _summary, _tables
from apportion.results.evaluation._column import Column
from apportion.results.evaluation._numbers import Numbers, curves_of, numbers_of
from apportion.results.evaluation._rows import Row, Rows
from apportion.results.evaluation._summary import Only

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas

#: The files of a run's folder.
SETTINGS, ROWS = "run.json", "rows.jsonl"


@dataclass(frozen=True, kw_only=True, repr=False)
class Evaluation(Shown):
    """The result of a run, read from its folder as it is asked for.

    Means are over the items that have a number; their intervals, of 95%, say where another draw of as many items
    would have them. They are drawn by the run's seed, so that a table is the same at every call.

    Args:
        path: The run's folder.
        settings: What was measured, and how, JSON-ready.
        keep_alive: The temporary folder behind `path`, where the user named none; it goes when the result does.
    """

    path: Path
    settings: dict[str, Any]
    keep_alive: Any = field(default=None, compare=False)

    @classmethod
    def load(cls, path: str | Path) -> Evaluation:
        """Read a run's folder, also one that is not finished.

        Raises:
            ApportionError: It is not the folder of a run.
        """
        path = Path(path)
        try:
            settings = json.loads((path / SETTINGS).read_text())
        except (OSError, ValueError) as error:
            raise ApportionError(
                f"{str(path)!r} is not the folder of an evaluation: it has no {SETTINGS} that can be read."
            ) from error
        return cls(path=path, settings=settings)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Copy the run's folder to a new one, whole or not at all; a run can go on there too.

        Raises:
            ApportionError: There is something of this name already, or no folder to put it in.
        """
        with written_whole(Path(path)) as folder:
            folder.mkdir()
            for name in (SETTINGS, ROWS):
                if (self.path / name).exists():
                    shutil.copyfile(self.path / name, folder / name)
        return Path(path)

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

    def __len__(self) -> int:
        """How many items have been measured."""
        return len(self._numbers.correct)

    @property
    def groups(self) -> list[str]:
        """What a summary may be broken down by."""
        return list(self._numbers.groups)

    def values_of(self, group: str) -> set[Any]:
        """What the items of a group are; those that do not say are left out."""
        return {value for value in self._numbers.group(group) if value is not None}

    @property
    def accuracy(self) -> tuple[int, int]:
        """How many items the model gets right, and of how many it is known."""
        correct = self._numbers.correct
        return sum(c is True for c in correct), sum(c is not None for c in correct)

    def summary(self, by: str | None = None, *, only: Only = "all") -> pandas.DataFrame:
        """Each method's mean by each measure: method, measure, n, mean, low, high.

        Args:
            by: One of `groups`, which gives a column of that name and a row for each of its values; items that do
                not have it are left out.
            only: `"correct"` keeps the items that the model gets right.

        Raises:
            ApportionError: There is no such group, or no item is left.
        """
        return _summary.summary(self._numbers, self.methods, self._scalars, by=by, only=only, seed=self._seed)

    def differences(self, measure: str, *, to: str | None = None, only: Only = "all") -> pandas.DataFrame:
        """How each method differs from one, on the items that both have: method, to, n, difference, low, high.

        Args:
            measure: A column's name, such as `"abpc"`.
            to: The method that is subtracted; by default the best, the random order included.
            only: As in `summary`.

        Raises:
            ApportionError: There is no such measure or method, or no method is best by the measure.
        """
        names = [column.name for column in self._scalars]
        if measure not in names:
            raise ApportionError(f"there is no {measure!r} in this run; it has {', '.join(names)}.")
        if to is not None and to not in self.methods:
            raise ApportionError(f"there is no method {to!r} in this run; it has {', '.join(self.methods)}.")
        return _summary.differences(
            self._numbers, self.methods, self._scalars, measure, to=to, only=only, seed=self._seed
        )

    def curves(self, *, only: Only = "all") -> pandas.DataFrame:
        """Each method's mean curves, point by point: method, curve, step (from 0 to 1), mean, low, high."""
        kept = _summary.items_kept(self._numbers, only)
        names = [column.name for column in self.columns if column.curve]
        return _summary.curves(curves_of(self, self.methods, names), kept, seed=self._seed)

    def costs(self) -> pandas.DataFrame:
        """What each method takes for an item, in the mean: method, seconds, forward and backward passes in examples."""
        return _summary.costs(self._numbers, self.methods)

    def refusals(self) -> pandas.DataFrame:
        """What could not be measured: method, items, and the most frequent reason."""
        return _summary.refusals(self._numbers, self.methods)

    def rank_correlations(self, *, only: Only = "all") -> pandas.DataFrame:
        """Whether measures agree on which methods are good: Spearman's ρ of the methods' means, measure × measure.

        Measures where low values are good are turned round, those where neither is are left out, and so is the random
        order. NaN where fewer than three methods have both.
        """
        return _summary.rank_correlations(self._numbers, self.methods, self._scalars, only=only)

    def to_frame(self) -> pandas.DataFrame:
        """The rows as a pandas table, one for each item and method; an item's groups are columns `group_…`."""
        return _tables.frame(self, self._kinds)

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as a Parquet file, as `to_frame` has them; large runs fit in little memory."""
        _tables.write_parquet(self, self._kinds, Path(path))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as comma-separated values, without the curves."""
        _tables.write_csv(self, self._kinds, Path(path))

    def to_dict(self) -> dict[str, Any]:
        """The settings and tables in JSON-ready values; a number that is not defined is None."""
        right, known = self.accuracy
        correlations = self.rank_correlations().to_dict("index")
        return {
            **{name: value for name, value in self.settings.items() if name != "columns"},
            "items": len(self),
            "accuracy": {"correct": right, "known": known},
            **{name: _tables.records(getattr(self, name)()) for name in ("summary", "costs", "refusals")},
            "rank_correlations": {
                name: {other: _tables.defined(value) for other, value in row.items()}
                for name, row in correlations.items()
            },
        }

    def plot(self, shown: str | None = None, *, measure: str | None = None) -> matplotlib.figure.Figure:
        """A matplotlib figure; needs the extra `evaluate`.

        Args:
            shown: A measure, for a bar with its interval for each method, by default the first; `"curves"`, the
                perturbation curves with their bands; or `"cost"`, a measure against the seconds an item takes.
            measure: Which one stands against the cost; by default the first.

        Raises:
            ApportionError: There is nothing of this name to show, or matplotlib is not installed.
        """
        return super().plot(shown, measure=measure)

    @property
    def _scalars(self) -> list[Column]:
        return [column for column in self.columns if not column.curve]

    @property
    def _kinds(self) -> dict[str, type]:
        return _tables.kinds_of(self._numbers, self.columns)

    @property
    def _seed(self) -> int:
        return int(self.settings["seed"])

    @cached_property
    def _numbers(self) -> Numbers:
        """Read once: what a run adds later is in the result of that run."""
        return numbers_of(self, self.methods, [column.name for column in self._scalars])
