"""The run: every item × every method, measured, written down, and taken up again where it was interrupted."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from apportion.core import ApportionError, __version__, fingerprint, weights_fingerprint, write_atomically
from apportion.engine import Engine
from apportion.evaluation._case import Case
from apportion.evaluation._item import Item
from apportion.evaluation._measure import Found, Measure
from apportion.evaluation._random import Random
from apportion.games import AnyMasker, as_masker
from apportion.methods import Method
from apportion.results import Attribution
from apportion.results.evaluation import RANDOM, ROWS, SETTINGS, Evaluation, Row, Rows

#: How many random orders the baseline is the mean of, for each item.
RANDOM_ORDERS = 3


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is measured, and how; a folder holds the rows of one such run.

    Args:
        engine: Of the model.
        methods: By what the tables call them.
        measures: In the order of the tables.
        masker: How parts of the prompt are made absent.
        seed: Of everything that is drawn.
        data: What the data are called, for tables and pages.
    """

    engine: Engine
    methods: Mapping[str, Method]
    measures: Sequence[Measure]
    masker: AnyMasker = "auto"
    seed: int = 0
    data: str = ""

    def __post_init__(self) -> None:
        if RANDOM in self.methods:
            raise ApportionError(f"{RANDOM!r} is in every run as the order to beat; leave it out of the methods.")
        if not self.measures:
            raise ApportionError("measures is empty; name some, or leave it out.")
        names = [column.name for measure in self.measures for column in measure.columns]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ApportionError(f"two of the measures have a column {twice[0]!r}; give each measure once.")
        if self.seed < 0:
            raise ApportionError(f"seed={self.seed} is not possible; give 0 or more.")

    @property
    def labels(self) -> list[str]:
        """What each item has a row of: the methods, and the random order that they must beat."""
        return [*self.methods, RANDOM]

    def rows_of(self, item: Item) -> list[Row]:
        """An item's rows; where a method, a measure or the item itself does not fit the model, the reason."""
        known: dict[str, Any] = {"item": item.id, "groups": dict(item.groups), "fingerprint": fingerprint(item)}
        try:
            case = Case(self.engine, item, methods=self.methods.values(), masker=self.masker, seed=self.seed)
            known |= {
                "correct": case.correct,
                "explained": _finite(case.task.target_values.values[0][0]),
                "players": len(case.players.groups),
            }
        except ApportionError as error:
            return [Row(method=label, refused=str(error), **known) for label in self.labels]
        except Exception as error:
            error.add_note(f"while the model read the item {item.id!r}")
            raise
        measures = [measure for measure in self.measures if item.has_truth or not measure.needs_truth]
        rows = []
        for label in self.labels:
            try:
                method = self.methods.get(label)
                found = _random_row(case, measures) if method is None else _row(case, measures, method)
            except Exception as error:
                error.add_note(f"while {label!r} was measured on the item {item.id!r}")
                raise
            rows.append(Row(method=label, **known, **found))
        return rows


def _row(case: Case, measures: Sequence[Measure], method: Method) -> dict[str, Any]:
    """What is in a method's row alone."""
    try:
        attribution = case.attribution(method)
    except ApportionError as error:
        return {"refused": str(error)}
    assert attribution.cost is not None
    found, refused = _found(case, measures, attribution, method)
    return {**_split(found), **asdict(attribution.cost), "refused": refused}


def _random_row(case: Case, measures: Sequence[Measure]) -> dict[str, Any]:
    """The mean over several random orders."""
    every: list[Found] = []
    refused = None
    for seed in case.generator(RANDOM).integers(2**31, size=RANDOM_ORDERS).tolist():
        method = Random(seed=seed)
        found, refused = _found(case, measures, case.attribution(method), method)
        every.append(found)
    in_all = [name for name in every[0] if all(name in found for found in every)]
    mean = {name: np.mean([found[name] for found in every], 0).tolist() for name in in_all}
    return {**_split(mean), "refused": refused}


def _found(
    case: Case, measures: Sequence[Measure], attribution: Attribution, method: Method
) -> tuple[Found, str | None]:
    """What the measures find; of those that do not fit here, the reasons."""
    found: dict[str, Any] = {}
    refused = []
    for measure in measures:
        try:
            found |= measure.of(case, attribution, method)
        except ApportionError as error:
            refused.append(f"{measure.name}: {error}")
    return found, "; ".join(refused) or None


def _split(found: Found) -> dict[str, Any]:
    """Numbers and curves."""
    return {
        "values": {name: _finite(value) for name, value in found.items() if not isinstance(value, Iterable)},
        "curves": {name: [_finite(y) for y in value] for name, value in found.items() if isinstance(value, Iterable)},
    }


def _finite(value: Any) -> float | None:
    """A number as JSON has it, which knows no NaN."""
    return float(value) if math.isfinite(value) else None


def evaluate(
    run: Run,
    data: Iterable[Item],
    *,
    path: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """Measure every item, or those that a folder does not have yet.

    Args:
        run: What is measured.
        data: The items, gone through once.
        path: The folder where the rows are kept; without it they go when the result does.
        limit: How many items are measured at most.
        progress: Whether to show a progress bar.

    Raises:
        ApportionError: The folder holds another run or other data, or another process writes to it; an item's id occurs
            twice; or there is no item.
    """
    if limit is not None and limit < 1:
        raise ApportionError(f"limit={limit} is not possible; give 1 or more, or leave it out.")
    temporary = None
    if path is None:
        temporary = Temporary()
        path = temporary.path
    settings = _settings(run)
    folder = _usable(Path(path))
    evaluation = Evaluation(path=folder, settings=settings, keep_alive=temporary)
    rows = evaluation.rows
    with rows.locked():
        _keep_settings(folder, settings)
        rows.cut_torn_end()
        for item in _to_do(_shown(_distinct(data, limit), _total(data, limit), show=progress), rows):
            rows.append(run.rows_of(item))
    return evaluation


class Temporary:
    """A folder that goes when this does, or when the process ends."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="apportion-")
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def _to_do(data: Iterable[Item], rows: Rows) -> Iterator[Item]:
    """The items that have no rows yet; those that have come first, in the data as in the folder."""
    done = rows.items()
    for item in data:
        known = next(done, None)
        if known is None:
            yield item
        elif known != (item.id, fingerprint(item)):
            same = "another item of that id" if known[0] == item.id else f"the item {known[0]!r}"
            raise ApportionError(
                f"the folder {str(rows.path.parent)!r} holds other data: where the data have the item {item.id!r}, it "
                f"has {same}. Give another folder, or the same data (which may have more at their end)."
            )


def _settings(run: Run) -> dict[str, Any]:
    """What makes a run this one, JSON-ready."""
    methods: dict[str, Any] = {label: {"name": m.name, **m.options} for label, m in run.methods.items()}
    masker = as_masker(run.masker)
    settings = {
        "apportion": __version__,
        "model": run.engine.name,
        "data": run.data,
        "methods": {**methods, RANDOM: {"name": RANDOM, "orders": RANDOM_ORDERS}},
        "measures": {m.name: asdict(m) if is_dataclass(m) else {} for m in run.measures},
        "columns": [asdict(column) for measure in run.measures for column in measure.columns],
        "masker": masker.name,
        "seed": run.seed,
        "fingerprints": {
            "weights": weights_fingerprint(run.engine.model),
            "methods": fingerprint(run.methods),
            "measures": fingerprint(run.measures),
            "masker": fingerprint(masker),
        },
    }
    return json.loads(json.dumps(settings, default=str))


def _usable(path: Path) -> Path:
    """A folder that is there and holds nothing but a run."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        names = {entry.name for entry in path.iterdir() if not entry.name.startswith(".")}
        begun = names == {ROWS} and (path / ROWS).stat().st_size == 0
    except OSError as error:
        raise ApportionError(f"cannot write to the folder {str(path)!r}: {error.strerror}.") from error
    if names and SETTINGS not in names and not begun:
        raise ApportionError(f"the folder {str(path)!r} is not empty and holds no run; give another.")
    return path


def _keep_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Write down what is run, or find it to be what the folder holds."""
    if not (path / SETTINGS).exists():
        write_atomically(path / SETTINGS, json.dumps(settings, indent=1).encode())
        return
    known = json.loads((path / SETTINGS).read_text())
    # What the data are called is not compared: their items are.
    differing = [name for name in settings if name != "data" and known.get(name) != settings[name]]
    if differing == ["fingerprints"]:
        prints = known.get("fingerprints", {})
        differing = [name for name, value in settings["fingerprints"].items() if prints.get(name) != value]
    if differing:
        what = ", ".join(name for name in differing if name != "fingerprints")
        raise ApportionError(
            f"the folder {str(path)!r} holds another run (not the same: {what}); give another folder, or the same "
            "request to go on with it."
        )


def _distinct(data: Iterable[Item], limit: int | None) -> Iterator[Item]:
    seen: set[str] = set()
    for item in itertools.islice(data, limit):
        if item.id in seen:
            raise ApportionError(f"two items are called {item.id!r}; give each an id of its own.")
        seen.add(item.id)
        yield item
    if not seen:
        raise ApportionError("there is no item to evaluate; give some texts or items.")


def _total(data: Iterable[Item], limit: int | None) -> int | None:
    """How many items there will be, where that can be told."""
    if not isinstance(data, Sized):
        return limit
    return len(data) if limit is None else min(limit, len(data))


def _shown(items: Iterator[Item], total: int | None, *, show: bool) -> Iterator[Item]:
    """The items themselves, with a bar that says which one is measured; see `progress`."""
    console = Console(stderr=True)
    if not (show and console.is_terminal):
        yield from items
        return
    columns = (
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[item]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("evaluating", total=total, item="")
        for item in items:
            bar.update(task, item=escape(item.id))
            yield item
            bar.advance(task)
