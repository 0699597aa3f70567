"""The HTML report: one self-contained page, or a fragment of it for notebooks."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle
from typing import Any

import jinja2
import torch

from apportion._attribution import Attribution
from apportion.report._accounts import Accounts, Row
from apportion.report._blocks import place
from apportion.report._colour import DARK, LIGHT, Scale
from apportion.report._labels import cut, ends_line, visible
from apportion.report._numbers import exact, percent, precise, signed
from apportion.report._plate_view import Drawing, PlateView, largest_on, order_of
from apportion.report._plates import Plate, plates_of, text_members
from apportion.report._reading import Reading, readings

# The scale in steps, so that a page has one style rule per step instead of one per feature.
STEPS = 24
TOP = 10
LABEL = 100
PREDICTIONS = 5
# Numbers stand under the features from the start where there are few.
FEW = 24
# Beyond this the text is set smaller.
LONG = 120
# Targets times features that a page and a notebook's output may hold, at about 300 bytes each, and targets.
PAGE_CELLS = 40_000
FRAGMENT_CELLS = 8_000
MAX_TARGETS = 256
# Neighbouring segments of the ledger differ in strength, in this order for each sign.
SHADES = (0.75, 0.5, 0.3)
# Numbers of images that a page and a notebook's output may hold, at about 8 bytes each.
PAGE_PATCHES = 1_000_000
FRAGMENT_PATCHES = 200_000
# More parts of images than this have no row each in the table of all numbers.
MAX_ROWS = 400
# The single biases behind a line of the ledger can be hundreds.
MAX_PARTS = 40


def html_page(attribution: Attribution) -> str:
    """The attribution as one HTML file that asks nothing of the network and follows the reader's light or dark."""
    budget = _Budget(cells=PAGE_CELLS, patches=PAGE_PATCHES, scripted=True)
    return environment().get_template("page.html").render(_context(attribution, "apportion", budget))


def html_fragment(attribution: Attribution) -> str:
    """The attribution for a notebook's output: needs no script, and its styles hold for itself alone."""
    # A name of its own, since the same attribution may be shown twice in one notebook.
    scope = f"apportion-{secrets.token_hex(4)}"
    budget = _Budget(cells=FRAGMENT_CELLS, patches=FRAGMENT_PATCHES, scripted=False)
    return environment().get_template("report.html").render(_context(attribution, scope, budget))


@dataclass(frozen=True, kw_only=True)
class _Budget:
    """What a page may hold: targets times features of the text, the same of images, and whether it has a script."""

    cells: int
    patches: int
    scripted: bool


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """One feature in the text: where it stands, what is shown, its step on the scale, its number and its tooltip.

    The space that a label begins with stands before its colour, so that no colour hangs over the end of a line.
    """

    place: str
    space: str
    label: str
    step: str
    number: str
    tip: str
    template: bool
    ends_line: bool


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One row of the largest shares, or one segment of the ledger: `left` and `width` in percent of its track."""

    name: str
    number: str
    share: str
    step: str
    left: float
    width: float
    tip: str
    parts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class View:
    """The same text in one grain, `"tokens"` or `"words"`."""

    name: str
    blocks: tuple[tuple[str, tuple[_Cell, ...]], ...]
    top: tuple[Bar, ...]
    more: str
    most_negative: str
    most_positive: str


@dataclass(frozen=True, kw_only=True)
class Books:
    """The ledger as a bar and a table; `zero` and `total_at` in percent of the bar."""

    segments: tuple[Bar, ...]
    zero: float
    total_at: float
    total: str
    residual: str
    relative_residual: str


@dataclass(frozen=True, kw_only=True)
class _Regions:
    """The largest shares of a picture's regions; `map` is the script's, and `members` are the regions in it."""

    heading: str
    map: int | None
    members: tuple[int, ...]
    top: tuple[Bar, ...]
    more: str


@dataclass(frozen=True, kw_only=True)
class _Panel:
    """Everything about one target."""

    label: str
    value: str
    unit: str
    views: tuple[View, ...]
    plates: tuple[PlateView, ...]
    regions: tuple[_Regions, ...]
    divided_name: str
    ledger: Books | None


@cache
def environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("apportion.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _context(attribution: Attribution, scope: str, budget: _Budget) -> dict[str, Any]:
    text = text_members(attribution.features)
    plates = plates_of(attribution.features, attribution.pictures)
    patches = sum(len(plate.members) for plate in plates)
    at_most = min(MAX_TARGETS, budget.cells // max(1, len(text)), budget.patches // max(1, patches))
    every = readings(attribution, at_most=max(1, at_most))
    grains = [("tokens", readings(attribution, at_most=len(every), of=text) if plates else every)] if text else []
    words = _of_text(attribution, text).words() if text else attribution
    if text and len(words.features) != len(text):
        grains.append(("words", readings(words, at_most=len(every))))
    # A share is a part of the whole, also where the text is only a part of what it is divided among.
    if plates:
        grains = [(name, [replace(r, sizes=o.sizes) for r, o in zip(g, every, strict=True)]) for name, g in grains]
    drawing = Drawing(scripted=budget.scripted)
    largest = largest_on(plates, every)
    panels = []
    for i, reading in enumerate(every):
        views = tuple(view_of(name, grain[i]) for name, grain in grains)
        shown = tuple(drawing.view(plate, reading, largest, several=len(plates) > 1) for plate in plates)
        regions = tuple(_regions(plate, reading, one, largest) for plate, one in zip(plates, shown, strict=True))
        panels.append(_panel(reading, views, shown, regions))
    return {
        "scope": scope,
        "light": steps_of(LIGHT),
        "dark": steps_of(DARK),
        "method": attribution.method,
        "model": visible(attribution.model) if attribution.model else "",
        "options": [(n, str(value)) for n, value in attribution.options.items() if not isinstance(value, dict)],
        "prediction": [
            (visible(label), f"{100 * p:.1f}%", round(100 * p, 2)) for label, p in attribution.prediction[:PREDICTIONS]
        ],
        "panels": panels,
        "hidden": len(attribution) - len(panels),
        "grains": [name for name, _ in grains],
        "numbers": len(text) <= FEW,
        "long": len(text) > LONG,
        "table": _raw_table(attribution, every, plates),
        "pictures": drawing.content if plates and budget.scripted else None,
        **drawing.style,
    }


def _of_text(attribution: Attribution, members: Sequence[int]) -> Attribution:
    """The shares of some features alone, with the accounts of all."""
    kept = torch.tensor(list(members), dtype=torch.long)

    def of(values: torch.Tensor | None) -> torch.Tensor | None:
        return None if values is None else values.index_select(-1, kept)

    return replace(
        attribution,
        scores=attribution.scores.index_select(-1, kept),
        position_scores=of(attribution.position_scores),
        standard_errors=of(attribution.standard_errors),
        features=tuple(attribution.features[i] for i in members),
        explained=tuple(replace(e, feature=None) for e in attribution.explained),
    )


def steps_of(scale: Scale) -> list[tuple[str, str, str]]:
    """Name, background and text colour of every step of the scale."""
    places = [i / STEPS for i in range(-STEPS, STEPS + 1)]
    return [(step_of(at), scale.background(at), scale.text(at)) for at in places]


def step_of(at: float) -> str:
    step = round(at * STEPS)
    return "z" if step == 0 else f"{'n' if step < 0 else 'p'}{abs(step)}"


def _panel(
    reading: Reading, views: tuple[View, ...], plates: tuple[PlateView, ...], regions: tuple[_Regions, ...]
) -> _Panel:
    target = reading.target
    return _Panel(
        label=cut(visible(target.label), LABEL),
        value=signed(target.value, abs(target.value)),
        unit=target.unit,
        views=views,
        plates=plates,
        regions=regions,
        divided_name=reading.divided_name,
        ledger=None if reading.accounts is None else books_of(reading, reading.accounts),
    )


def _regions(plate: Plate, reading: Reading, view: PlateView, largest: float) -> _Regions:
    order = order_of(plate, reading)
    scaled = replace(reading, largest=largest)
    hidden = order[TOP:]
    rest = sum((reading.scores[plate.members[m]] for m in hidden), 0.0)
    return _Regions(
        heading=f"Largest {plate.noun}" + (f" of {plate.picture.label}" if view.label else ""),
        map=view.map,
        members=tuple(order[:TOP]),
        top=tuple(
            bar_of(scaled, plate.members[m], rank, len(plate.members)) for rank, m in enumerate(order[:TOP], start=1)
        ),
        more=f"{len(hidden)} more, together {signed(rest, largest)}" if hidden else "",
    )


def view_of(name: str, reading: Reading) -> View:
    ranks = {i: rank for rank, i in enumerate(reading.order, start=1)}
    blocks = []
    for block in reading.blocks:
        cells = []
        for i in block.members:
            feature = reading.features[i]
            label = visible(feature.label)
            space = label[: len(label) - len(label.lstrip(" "))]
            cells.append(
                _Cell(
                    place=f"{feature.part}{feature.positions[0] if feature.positions else i}",
                    space=space,
                    label=label[len(space) :],
                    step=step_of(reading.strength(i)),
                    number=signed(reading.scores[i], reading.largest),
                    tip=_tip(reading, i, ranks[i]),
                    template=feature.template,
                    ends_line=ends_line(feature),
                )
            )
        blocks.append((block.heading, tuple(cells)))
    hidden = reading.order[TOP:]
    rest = signed(sum((reading.scores[i] for i in hidden), 0.0), reading.largest)
    return View(
        name=name,
        blocks=tuple(blocks),
        top=tuple(bar_of(reading, i, rank) for rank, i in enumerate(reading.order[:TOP], start=1)),
        more=f"{len(hidden)} more, together {rest}" if hidden else "",
        most_negative=signed(-reading.largest, reading.largest),
        most_positive=signed(reading.largest, reading.largest),
    )


def _tip(reading: Reading, i: int, rank: int, count: int | None = None) -> str:
    share = reading.share(reading.scores[i])
    lines = [
        f"“{cut(visible(reading.features[i].label), LABEL)}”",
        f"{precise(reading.scores[i])} {reading.target.unit}",
        f"rank {rank} of {len(reading.scores) if count is None else count}",
        place(reading.features[i]) if reading.features[i].of_text else "",
    ]
    if share is not None:
        lines.insert(2, f"{percent(share)} of {reading.divided_name}")
    if reading.standard_errors is not None:
        lines.insert(2, f"standard error {reading.standard_errors[i]:.2g}")
    if reading.position_scores is not None:
        lines.append(f"its position embedding: {precise(reading.position_scores[i])}")
    return "\n".join(line for line in lines if line)


def bar_of(reading: Reading, i: int, rank: int, count: int | None = None) -> Bar:
    share = reading.share(reading.scores[i])
    at = reading.strength(i)
    return Bar(
        name=visible(reading.features[i].label),
        number=signed(reading.scores[i], reading.largest),
        share="" if share is None else percent(share),
        # Its length tells the size, so that a short bar need not be pale.
        step=step_of(math.copysign(0.6, at)),
        left=round(50 + min(0.0, 50 * at), 3),
        width=round(50 * abs(at), 3),
        tip=_tip(reading, i, rank, count),
    )


def books_of(reading: Reading, accounts: Accounts) -> Books:
    """The ledger's segments: what takes away stands to the left of zero, what adds to the right."""
    amounts = [row.amount for row in accounts.rows]
    below, above = (sum(abs(amount) for amount in amounts if (amount < 0) is negative) for negative in (True, False))
    span = (below + above) or 1.0
    reach = {True: below, False: below}
    shades = {True: cycle(SHADES), False: cycle(SHADES)}
    segments = []
    for row in accounts.rows:
        negative = row.amount < 0
        left = reach[negative] - abs(row.amount) if negative else reach[negative]
        reach[negative] += row.amount
        share = reading.share(row.amount)
        shown = "" if share is None else percent(share)
        tip = [visible(row.name), f"{precise(row.amount)} {reading.target.unit}", shown and f"{shown} of the total"]
        segments.append(
            Bar(
                name=visible(row.name),
                number=signed(row.amount, accounts.largest),
                share=shown,
                step=step_of(next(shades[negative]) * (-1 if negative else 1)),
                left=round(100 * left / span, 3),
                width=round(100 * abs(row.amount) / span, 3),
                tip="\n".join(line for line in tip if line),
                parts=_parts(row),
            )
        )
    return Books(
        segments=tuple(segments),
        zero=round(100 * below / span, 3),
        # The residual could carry the total out of the bar.
        total_at=round(min(100.0, max(0.0, 100 * (below + accounts.total) / span)), 3),
        total=signed(accounts.total, accounts.largest),
        residual=precise(accounts.residual),
        relative_residual=f"{accounts.relative_residual:.1g}".replace("-", "−"),
    )


def _parts(row: Row) -> tuple[tuple[str, str], ...]:
    parts = [(visible(name), precise(amount)) for name, amount in row.parts[:MAX_PARTS]]
    if hidden := row.parts[MAX_PARTS:]:
        parts.append((f"{len(hidden)} more", precise(sum(amount for _, amount in hidden))))
    return tuple(parts)


def _raw_table(attribution: Attribution, shown: Sequence[Reading], plates: Sequence[Plate]) -> dict[str, Any]:
    """Every number with all its digits: a row per feature, a column per target.

    Many parts of images have no rows: a page of fifty thousand pixels would not open.
    """
    parts = {i for plate in plates for i in plate.members}
    if len(parts) <= MAX_ROWS:
        parts = set()
    dtype = attribution.scores.dtype
    kept = [i for i in range(len(attribution.features)) if i not in parts]
    columns: list[tuple[str, list[str]]] = []
    for reading in shown:
        name = "share" if len(shown) == 1 else visible(reading.target.label)
        columns.append((name, [exact(reading.scores[i], dtype) for i in kept]))
        if reading.position_scores is not None:
            positions = [exact(reading.position_scores[i], dtype) for i in kept]
            columns.append(("position embedding" if len(shown) == 1 else f"{name}, position embedding", positions))
    features = attribution.features
    return {
        "columns": [name for name, _ in columns],
        "rows": [
            (i, visible(features[i].label), place(features[i]), [values[k] for _, values in columns])
            for k, i in enumerate(kept)
        ],
        "left": len(parts),
    }
