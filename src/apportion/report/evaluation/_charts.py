"""The evaluation's charts as lines and points in pixels, for the page's SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apportion.report.evaluation._ranking import Ranking, number
from apportion.report.kit import Axis, look, reaching
from apportion.results.evaluation import RANDOM, Evaluation

#: What the axes and the two perturbation curves are called.
LABELS = {"morf": "most relevant first (MoRF)", "lerf": "least relevant first (LeRF)"}
FIRST_TO_LAST = "from the first (0) to the last (1)"
# Pixels of a small chart, of a large one, and the width of a character of their labels.
SMALL, LARGE = (290, 190), (460, 300)
CHARACTER = 6.1
LINE = 13.0


#: By method and curve, its points: step, mean, low and high.
Curves = dict[tuple[str, str], list[dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve: what it is called, how it looks, its path, its band's, and its points with their tips."""

    kind: str
    dashes: str
    path: str
    band: str
    points: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One method in the plane of cost and faithfulness; its label begins, or ends, at `label`."""

    method: str
    kind: str
    x: float
    y: float
    whisker: tuple[float, float] | None
    label: tuple[float, float, str]
    tip: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Axes with what is drawn on them."""

    title: str
    note: str
    x: Axis
    y: Axis
    x_label: str
    size: tuple[int, int]
    lines: tuple[Line, ...] = ()
    points: tuple[Point, ...] = ()
    random: tuple[float, float, float] | None = None


def curves_of(evaluation: Evaluation) -> Curves:
    """The points of all curves, where they are defined."""
    found: Curves = {}
    if not len(evaluation):
        return found
    for row in evaluation.curves().to_dict("records"):
        if math.isfinite(row["mean"]):
            found.setdefault((row["method"], row["curve"]), []).append(row)
    return found


def method_charts(curves: Curves, area: Ranking | None) -> list[Chart]:
    """For each method its two perturbation curves over those of a random order, by falling area between them."""
    shown = {key: rows for key, rows in curves.items() if key[1] in LABELS}
    y = _height(shown.values(), SMALL)
    x = Axis(low=0, high=1, start=38, end=SMALL[0] - 10)
    ranked = [] if area is None else [entry.method for entry in area.entries]
    methods = sorted(
        dict.fromkeys(method for method, _ in shown if method != RANDOM),
        key=lambda method: ranked.index(method) if method in ranked else len(ranked),
    )
    grey = [_line(shown[key], x, y, "random", "", "random") for key in shown if key[0] == RANDOM]
    charts = []
    for method in methods:
        own = [_line(shown[method, k], x, y, k, "", LABELS[k]) for k in LABELS if (method, k) in shown]
        entry = None if area is None else area.of(method)
        charts.append(
            Chart(
                title=method,
                note="" if area is None or entry is None else f"abpc {area.text(entry.mean)}",
                x=x,
                y=y,
                x_label="fraction removed",
                size=SMALL,
                lines=(*grey, *own),
            )
        )
    return charts


def curve_charts(evaluation: Evaluation, curves: Curves) -> list[Chart]:
    """For each kind of curve all methods in one chart."""
    places = {method: place for place, method in enumerate(evaluation.methods)}
    columns = [column for column in evaluation.columns if column.curve]
    x = Axis(low=0, high=1, start=42, end=LARGE[0] - 10)
    charts = []
    for column in columns:
        rows = {method: of for (method, curve), of in curves.items() if curve == column.name}
        if not rows:
            continue
        y = _height(rows.values(), LARGE)
        grey = [_line(rows[RANDOM], x, y, "random", "", RANDOM)] if RANDOM in rows else []
        lines = [
            _line(of, x, y, f"k{places[method]}", look(places[method])[1], method)
            for method, of in rows.items()
            if method != RANDOM
        ]
        charts.append(
            Chart(
                title=LABELS.get(column.name, column.name),
                note=column.meaning,
                x=x,
                y=y,
                x_label="fraction removed" if column.name in LABELS else FIRST_TO_LAST,
                size=LARGE,
                lines=(*grey, *lines),
            )
        )
    return charts


def costs_chart(ranking: Ranking, seconds: Mapping[str, float]) -> Chart | None:
    """Methods by the time they take and what a measure finds; None where no time is known."""
    timed = [s for s in ranking.entries if s.method in seconds and seconds[s.method] > 0]
    if not timed:
        return None
    width, height = LARGE
    x = reaching((seconds[s.method] for s in timed), start=52, end=width - 20, log=True)
    among = [*timed, *([ranking.random] if ranking.random else [])]
    ends = [v for s in among for v in (s.mean, *((s.low, s.high) if s.known else ()))]
    y = reaching(ends, start=height - 34, end=10)
    spots = [(x(seconds[s.method]), y(s.mean)) for s in timed]
    labels = _labels([s.method for s in timed], spots, right=width - 4)
    sign = -1 if ranking.column.better == "lower" else 1
    points = []
    for entry, spot, label in zip(timed, spots, labels, strict=True):
        took = seconds[entry.method]
        # Whether nothing as cheap is better.
        front = all(
            sign * other.mean <= sign * entry.mean or seconds[other.method] > took
            for other in timed
            if other is not entry
        )
        points.append(
            Point(
                method=entry.method,
                kind="front" if front else "behind",
                x=spot[0],
                y=spot[1],
                whisker=(y(entry.low), y(entry.high)) if entry.known else None,
                label=label,
                tip=f"{entry.method}: {ranking.text(entry.mean)} in {took:.2g} s",
            )
        )
    random = ranking.random
    band = None
    if random is not None:
        low, high = (y(random.low), y(random.high)) if random.known else (y(random.mean), y(random.mean))
        band = (y(random.mean), high, round(low - high, 1))
    return Chart(
        title=f"{ranking.column.name} against cost",
        note="",
        x=x,
        y=y,
        x_label="seconds for an item",
        size=LARGE,
        points=tuple(points),
        random=band,
    )


def _height(curves: Iterable[Sequence[Mapping[str, Any]]], size: tuple[int, int]) -> Axis:
    values = (row[key] for rows in curves for row in rows for key in ("mean", "low", "high"))
    return reaching(values, start=size[1] - 32, end=8)


def _line(rows: Sequence[Mapping[str, Any]], x: Axis, y: Axis, kind: str, dashes: str, name: str) -> Line:
    def path(key: str, order: int = 1) -> str:
        return "L".join(f"{x(row['step'])} {y(row[key])}" for row in rows[::order])

    band = ""
    if all(math.isfinite(row[key]) for row in rows for key in ("low", "high")):
        band = f"M{path('high')}L{path('low', -1)}Z"
    points = tuple(
        (x(row["step"]), y(row["mean"]), f"{name} at {row['step']:.3g}: {number(row['mean'], 3)}") for row in rows
    )
    return Line(kind=kind, dashes=dashes, path=f"M{path('mean')}", band=band, points=points)


def _labels(
    names: Sequence[str], spots: Sequence[tuple[float, float]], *, right: float
) -> list[tuple[float, float, str]]:
    """Where each point's name is written: beside it where that hits nothing written or drawn before."""
    boxes = [(x - 5, y - 5, x + 5, y + 5) for x, y in spots]
    placed = []
    for name, (x, y) in zip(names, spots, strict=True):
        width = CHARACTER * len(name)
        own = (x - 5, y - 5, x + 5, y + 5)
        others = [box for box in boxes if box != own]
        free = []
        for drop in (0, -LINE, LINE, -2 * LINE, 2 * LINE, -3 * LINE, 3 * LINE):
            for anchor, left in (("start", x + 8), ("end", x - 8 - width)):
                box = (left, y + drop - LINE / 2, left + width, y + drop + LINE / 2)
                if box[0] > 40 and box[2] < right:
                    free.append((sum(_overlap(box, other) for other in others), abs(drop), anchor, box))
        # The nearest of those that hit least.
        _, _, anchor, box = min(free, key=lambda choice: choice[:2]) if free else (0, 0, "start", (x + 8, y, x, y))
        boxes.append(box)
        placed.append((round(box[0] if anchor == "start" else x - 8, 1), round((box[1] + box[3]) / 2 + 4, 1), anchor))
    return placed


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
