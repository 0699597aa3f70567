"""The graph of interactions: a line of text with an arrow from each source to the target that it moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from apportion.core import Feature
from apportion.report.interactions._reading import Effect, effects, largest_between, name
from apportion.report.kit import strength, text_members
from apportion.results import Interactions

Point = tuple[float, float]
_Drawn = tuple[list[tuple[tuple[Point, Point, Point, Point], float]], tuple[float, ...], float]

#: Arrows that a page holds, and that it shows at first.
ARROWS, SHOWN = 150, 12
#: In pixels: of a letter, around a label, of the text's line, above the first line of two, and between the two.
LETTER, ROOM, LINE, EDGE, BETWEEN = 7.9, 14.0, 30.0, 8.0, 170.0
#: Up to this width lines are set apart, with at most so much more room for a feature.
WIDE, APART = 760.0, 70.0
#: The control points of an arc stand RISE × length^0.6 above the line, at least and at most so far.
RISE, LOWEST, HIGHEST = 6.5, 26.0, 240.0
#: The width of the weakest and of the strongest arrow.
THIN, THICK = 1.2, 7.0


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One feature in a line: its index, label, middle and half of its width, in pixels."""

    index: int
    label: str
    x: float
    half: float


@dataclass(frozen=True, kw_only=True)
class Arrow:
    """One effect: a cubic curve to where the head begins, and a head that points up or down.

    Args:
        effect: What is drawn.
        curve: The four points of the curve, in pixels.
        tip: Where the head ends, vertically; it stands over or under the end of the curve.
        width: Of the curve.
        opacity: From 0 to 1.
    """

    effect: Effect
    curve: tuple[Point, Point, Point, Point]
    tip: float
    width: float
    opacity: float

    @property
    def head(self) -> tuple[Point, Point, Point]:
        """The corners of the head."""
        (x, _), size = self.curve[3], _size(self.width)
        back = self.tip + math.copysign(size, self.curve[3][1] - self.tip)
        return (x, self.tip), (round(x - size / 2, 1), back), (round(x + size / 2, 1), back)

    @property
    def path(self) -> str:
        """The curve in SVG's notation."""
        start, *rest = (f"{x:.1f} {y:.1f}" for x, y in self.curve)
        return f"M{start}C{' '.join(rest)}"

    @property
    def corners(self) -> str:
        """The head in SVG's notation."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.head)


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A drawing of the largest effects.

    Where the targets are the sources there is one line, with effects on later features above it and effects on
    earlier ones below; otherwise the sources stand above the targets.

    Args:
        width: Of the drawing, in pixels.
        height: Of the drawing.
        rows: The lines of text: slots, and where the line's middle is.
        arrows: Largest first.
    """

    width: float
    height: float
    rows: tuple[tuple[tuple[Slot, ...], float], ...]
    arrows: tuple[Arrow, ...]


def graph_of(found: Interactions, k: int = ARROWS) -> Graph | None:
    """The graph of the `k` largest effects; None if sources or targets are not text, or all effects are 0."""
    sides = (found.sources,) if found.square else (found.sources, found.features)
    members = [[i for i in text_members(side) if not side[i].template] for side in sides]
    shown = [e for e in effects(found, k) if e.source in members[0] and e.target in members[-1] and e.value]
    if not shown:
        return None
    rows = [_slots(m, side) for m, side in zip(members, sides, strict=True)]
    largest = largest_between(found)
    sizes = [abs(strength(e.value, largest)) for e in shown]
    widths = [round(THIN + (THICK - THIN) * size, 2) for size in sizes]
    if found.square:
        curves, middles, height = _arcs(shown, rows[0], widths)
    else:
        curves, middles, height = _connections(shown, rows, widths)
    return Graph(
        width=round(max(row[-1].x + row[-1].half for row in rows) + EDGE, 1),
        height=round(height, 1),
        rows=tuple(zip(map(tuple, rows), middles, strict=True)),
        arrows=tuple(
            Arrow(effect=e, curve=curve, tip=tip, width=width, opacity=round(0.35 + 0.6 * size, 2))
            for e, (curve, tip), width, size in zip(shown, curves, widths, sizes, strict=True)
        ),
    )


def _slots(members: Sequence[int], features: Sequence[Feature]) -> list[Slot]:
    labels = [name(features[i]) for i in members]
    tight = [LETTER * max(2, cell_len(label)) + ROOM for label in labels]
    # Few features are set apart, so that the arrows between them are.
    room = max(0.0, min(APART, (WIDE - sum(tight)) / len(tight)))
    slots, x = [], EDGE
    for i, label, width in zip(members, labels, tight, strict=True):
        half = (width + room) / 2
        slots.append(Slot(index=i, label=label, x=round(x + half, 1), half=half))
        x += 2 * half
    return slots


def _arcs(shown: Sequence[Effect], row: Sequence[Slot], widths: Sequence[float]) -> _Drawn:
    """Arcs above the line from left to right, and below it from right to left."""
    place = {slot.index: p for p, slot in enumerate(row)}
    ends = [_ends(row, place[e.source], place[e.target]) for e in shown]
    above, below = (
        EDGE + max((0.75 * _rise(b - a) + THICK for a, b in ends if (a < b) is up), default=0.0) for up in (True, False)
    )
    middle = round(above + LINE / 2, 1)
    curves = []
    for (a, b), width in zip(ends, widths, strict=True):
        up = -1 if b > a else 1
        tip = middle + up * LINE / 2
        end, rise = tip + up * 0.9 * _size(width), up * _rise(b - a)
        curves.append((((a, tip), (a, tip + rise), (b, end + rise), (b, end)), tip))
    return curves, (middle,), above + LINE + below


def _connections(shown: Sequence[Effect], rows: Sequence[Sequence[Slot]], widths: Sequence[float]) -> _Drawn:
    """Curves from the upper line down to the lower one."""
    xs = [{slot.index: slot.x for slot in row} for row in rows]
    middles = EDGE + LINE / 2, EDGE + LINE * 1.5 + BETWEEN
    top, tip, reach = middles[0] + LINE / 2, middles[1] - LINE / 2, 0.45 * BETWEEN
    curves = []
    for e, width in zip(shown, widths, strict=True):
        a, b, end = xs[0][e.source], xs[1][e.target], tip - 0.9 * _size(width)
        curves.append((((a, top), (a, top + reach), (b, end - reach), (b, end)), tip))
    return curves, middles, middles[1] + LINE / 2 + EDGE


def _ends(row: Sequence[Slot], source: int, target: int) -> Point:
    """Where an arc leaves and arrives: on the sides that face each other, a longer arc further inside its slot.

    So the arcs of one feature do not cross each other, and those that leave do not meet those that arrive.
    """
    way = 1 if target > source else -1
    part = 0.2 + 0.7 * (1 - abs(target - source) / len(row))
    out, into = (part * min(row[k].half - ROOM / 4, 30.0) for k in (source, target))
    return round(row[source].x + way * out, 1), round(row[target].x - way * into, 1)


def _rise(length: float) -> float:
    return max(LOWEST, min(HIGHEST, RISE * abs(length) ** 0.6))


def _size(width: float) -> float:
    """Of the head of an arrow."""
    return 4 + 1.1 * width
