"""The run: every item × every method, measured, written down, and taken up again where it was interrupted."""

from __future__ import annotations

import itertools
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apportion._attribution import Attribution, write_atomically
from apportion._errors import ApportionError
from apportion._progress import progress as track_progress
from apportion.evaluation._case import Case
from apportion.evaluation._evaluation import SETTINGS, Evaluation
from apportion.evaluation._item import Item
from apportion.evaluation._measure import Found, Measure
from apportion.evaluation._random import RANDOM, Random
from apportion.evaluation._rows import Row
from apportion.games import AnyMasker, as_masker
from apportion.methods import Method

if TYPE_CHECKING:
    from apportion._explainer import Explainer

#: How many random orders the baseline is the mean of, for each item.
RANDOM_ORDERS = 3


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is measured, and how; a folder holds the rows of one such run.

    Args:
        explainer: Of the model.
        methods: By what the tables call them.
        measures: In the order of the tables.
        masker: How parts of the prompt are made absent.
        seed: Of everything that is drawn.
    """

    explainer: Explainer
    methods: Mapping[str, Method]
    measures: Sequence[Measure]
    masker: AnyMasker = "auto"
    seed: int = 0

    @property
    def labels(self) -> list[str]:
        """What each item has a row of: the methods, and the random order that they must beat."""
        return [*self.methods, RANDOM]

    def rows_of(self, item: Item) -> list[Row]:
        """An item's rows; of a method that refuses it, or of an item that does not fit the model, the reason."""
        try:
            case = Case(self.explainer, item, methods=self.methods.values(), masker=self.masker, seed=self.seed)
            known = {
                "item": item.id,
                "groups": dict(item.groups),
                "correct": case.correct,
                "explained": case.question.read.values[0][0],
                "players": len(case.players.groups),
            }
            measures = [measure for measure in self.measures if item.truth or not measure.needs_truth]
        except ApportionError as error:
            return [
                Row(item=item.id, method=label, groups=dict(item.groups), refused=str(error)) for label in self.labels
            ]
        rows = [_row(case, measures, label, method, known) for label, method in self.methods.items()]
        return [*rows, _random_row(case, measures, known)]


def _row(case: Case, measures: Sequence[Measure], label: str, method: Method, known: Mapping[str, Any]) -> Row:
    try:
        attribution = case.attribution(method)
        found = _found(case, measures, attribution, method)
    except ApportionError as error:
        return Row(method=label, refused=str(error), **known)
    assert attribution.cost is not None
    return Row(method=label, **known, **_split(found), **asdict(attribution.cost))


def _random_row(case: Case, measures: Sequence[Measure], known: Mapping[str, Any]) -> Row:
    """The mean over several random orders."""
    every: list[Found] = []
    for seed in case.generator(RANDOM).integers(2**31, size=RANDOM_ORDERS).tolist():
        method = Random(seed=seed)
        every.append(_found(case, measures, case.attribution(method), method))
    mean = {name: np.mean([found[name] for found in every], 0).tolist() for name in every[0]}
    return Row(method=RANDOM, **known, **_split(mean))


def _found(case: Case, measures: Sequence[Measure], attribution: Attribution, method: Method) -> Found:
    found: dict[str, Any] = {}
    for measure in measures:
        found |= measure.of(case, attribution, method)
    return found


def _split(found: Found) -> dict[str, Any]:
    """Numbers and curves; NaN, which JSON does not have, as None."""
    return {
        "values": {
            name: value if math.isfinite(value) else None
            for name, value in found.items()
            if isinstance(value, float | int)
        },
        "curves": {name: list(value) for name, value in found.items() if not isinstance(value, float | int)},
    }


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
        ApportionError: The folder holds another run, an item's id occurs twice, or there is no item.
    """
    temporary = None
    if path is None:
        temporary = tempfile.TemporaryDirectory(prefix="apportion-")
        path = temporary.name
    evaluation = Evaluation(
        path=_folder(Path(path), _settings(run)),
        settings=_settings(run),
        keep_alive=temporary,
    )
    rows = evaluation.rows
    done = rows.items_done()
    total = len(data) if isinstance(data, Sized) else limit
    for item in track_progress(_distinct(data, limit), "evaluating", show=progress, total=total):
        if item.id not in done:
            rows.append(run.rows_of(item))
    return evaluation


def _settings(run: Run) -> dict[str, Any]:
    """What makes a run this one, JSON-ready."""
    methods: dict[str, Any] = {label: {"name": m.name, **m.options} for label, m in run.methods.items()}
    return {
        "model": run.explainer.name,
        "methods": {**methods, RANDOM: {"name": RANDOM, "orders": RANDOM_ORDERS}},
        "measures": {measure.name: asdict(measure) for measure in run.measures},  # type: ignore[call-overload]
        "columns": [asdict(column) for measure in run.measures for column in measure.columns],
        "masker": as_masker(run.masker).name,
        "seed": run.seed,
    }


def _folder(path: Path, settings: Mapping[str, Any]) -> Path:
    """The folder, made for this run or found to hold it."""
    known = path / SETTINGS
    if known.exists():
        if json.loads(known.read_text()) != json.loads(json.dumps(settings)):
            raise ApportionError(
                f"the folder {str(path)!r} holds another run (model, methods, measures, masker or seed differ); "
                "give another folder, or the same request to go on with it."
            )
        return path
    if path.exists() and any(path.iterdir()):
        raise ApportionError(f"the folder {str(path)!r} is not empty and holds no run; give another.")
    path.mkdir(parents=True, exist_ok=True)
    write_atomically(known, json.dumps(settings, indent=1).encode())
    return path


def _distinct(data: Iterable[Item], limit: int | None) -> Iterator[Item]:
    seen: set[str] = set()
    for item in itertools.islice(data, limit):
        if item.id in seen:
            raise ApportionError(f"two items are called {item.id!r}; give each an id of its own.")
        seen.add(item.id)
        yield item
    if not seen:
        raise ApportionError("there is no item to evaluate; give some texts or items.")
