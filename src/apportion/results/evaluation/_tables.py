"""Tables: a run's rows as pandas, Parquet or comma-separated values, a part of them at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apportion.core import ApportionError, pandas_module, written_whole
from apportion.results.evaluation._column import Column
from apportion.results.evaluation._numbers import Numbers
from apportion.results.evaluation._rows import Row

if TYPE_CHECKING:
    import pandas

# So many rows are in memory at a time.
ROWS_AT_A_TIME = 2000

Kinds = Mapping[str, type]
"""What each column of a table of rows holds, in the order of the columns."""


def kinds_of(numbers: Numbers, columns: Sequence[Column]) -> dict[str, type]:
    """The columns of a run's rows: what is known of the item, its groups, the values and curves, the costs."""
    groups = {f"group_{name}": _kind(values) for name, values in numbers.groups.items()}
    values = {column.name: list if column.curve else float for column in columns}
    known = {"item": str, "method": str, **groups, "correct": bool, "explained": float, "players": int}
    return {**known, **values, "seconds": float, "forward": float, "backward": float, "refused": str}


def frame(rows: Iterable[Row], kinds: Kinds) -> pandas.DataFrame:
    """All rows; see `Evaluation.to_frame`."""
    return pandas_module().DataFrame(_records(rows, kinds), columns=list(kinds))


def write_parquet(rows: Iterable[Row], kinds: Kinds, path: Path) -> None:
    """Write a Parquet file, whole or not at all."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ApportionError("Parquet needs pyarrow: pip install 'apportion[evaluate]'.") from error
    types = {
        str: pyarrow.string(),
        bool: pyarrow.bool_(),
        int: pyarrow.int64(),
        float: pyarrow.float64(),
        list: pyarrow.list_(pyarrow.float64()),
    }
    schema = pyarrow.schema([(name, types[kind]) for name, kind in kinds.items()])
    with written_whole(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        for records in _parts(rows, kinds):
            writer.write_table(pyarrow.Table.from_pylist(records, schema))


def write_csv(rows: Iterable[Row], kinds: Kinds, path: Path) -> None:
    """Write comma-separated values, whole or not at all."""
    pandas = pandas_module()
    names = [name for name, kind in kinds.items() if kind is not list]
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        pandas.DataFrame(columns=names).to_csv(file, index=False)
        for records in _parts(rows, kinds):
            pandas.DataFrame(records, columns=names).to_csv(file, index=False, header=False)


def _kind(values: Sequence[Any]) -> type:
    """What a group's values are; texts where they are of several kinds."""
    kinds = {type(value) for value in values if value is not None}
    return kinds.pop() if len(kinds) == 1 else str


def _records(rows: Iterable[Row], kinds: Kinds) -> Iterator[dict[str, Any]]:
    for row in rows:
        groups = {f"group_{name}": kinds[f"group_{name}"](value) for name, value in row.groups.items()}
        flat = {**vars(row), **row.values, **row.curves, **groups}
        yield {name: flat.get(name) for name in kinds}


def _parts(rows: Iterable[Row], kinds: Kinds) -> Iterator[list[dict[str, Any]]]:
    records = _records(rows, kinds)
    while part := list(itertools.islice(records, ROWS_AT_A_TIME)):
        yield part


def records(table: pandas.DataFrame) -> list[dict[str, Any]]:
    """A table's rows in JSON-ready values; a number that is not defined is None."""
    return [{name: defined(value) for name, value in row.items()} for row in table.to_dict("records")]


def defined(value: Any) -> Any:
    """A value, or None for NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value
