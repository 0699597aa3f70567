"""The HTML report: one self-contained page, or a fragment of it for notebooks."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from typing import Any

import jinja2

from apportion._attribution import Attribution
from apportion.report._accounts import Accounts, Row
from apportion.report._blocks import place
from apportion.report._colour import DARK, LIGHT, Scale
from apportion.report._labels import cut, ends_line, visible
from apportion.report._numbers import exact, percent, precise, signed
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
# The single biases behind a line of the ledger can be hundreds.
MAX_PARTS = 40


def html_page(attribution: Attribution) -> str:
    """The attribution as one HTML file that asks nothing of the network and follows the reader's light or dark."""
    return environment().get_template("page.html").render(_context(attribution, "apportion", cells=PAGE_CELLS))


def html_fragment(attribution: Attribution) -> str:
    """The attribution for a notebook's output: needs no script, and its styles hold for itself alone."""
    # A name of its own, since the same attribution may be shown twice in one notebook.
    scope = f"apportion-{secrets.token_hex(4)}"
    return environment().get_template("report.html").render(_context(attribution, scope, cells=FRAGMENT_CELLS))


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
class _Bar:
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
    top: tuple[_Bar, ...]
    more: str
    most_negative: str
    most_positive: str


@dataclass(frozen=True, kw_only=True)
class _Books:
    """The ledger as a bar and a table; `zero` and `total_at` in percent of the bar."""

    segments: tuple[_Bar, ...]
    zero: float
    total_at: float
    total: str
    residual: str
    relative_residual: str


@dataclass(frozen=True, kw_only=True)
class _Panel:
    """Everything about one target."""

    label: str
    value: str
    unit: str
    views: tuple[View, ...]
    divided_name: str
    ledger: _Books | None


@cache
def environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("apportion.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _context(attribution: Attribution, scope: str, *, cells: int) -> dict[str, Any]:
    at_most = min(MAX_TARGETS, max(1, cells // max(1, len(attribution.features))))
    tokens = readings(attribution, at_most=at_most)
    words = attribution.words()
    if len(words.features) == len(attribution.features):
        grains = [("tokens", tokens)]
    else:
        grains = [("tokens", tokens), ("words", readings(words, at_most=at_most))]
    panels = [_panel(reading, [(name, grain[i]) for name, grain in grains]) for i, reading in enumerate(tokens)]
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
        "numbers": len(attribution.features) <= FEW,
        "long": len(attribution.features) > LONG,
        "table": _raw_table(attribution, tokens),
    }


def steps_of(scale: Scale) -> list[tuple[str, str, str]]:
    """Name, background and text colour of every step of the scale."""
    places = [i / STEPS for i in range(-STEPS, STEPS + 1)]
    return [(step_of(at), scale.background(at), scale.text(at)) for at in places]


def step_of(at: float) -> str:
    step = round(at * STEPS)
    return "z" if step == 0 else f"{'n' if step < 0 else 'p'}{abs(step)}"


def _panel(reading: Reading, grains: Sequence[tuple[str, Reading]]) -> _Panel:
    target = reading.target
    return _Panel(
        label=cut(visible(target.label), LABEL),
        value=signed(target.value, abs(target.value)),
        unit=target.unit,
        views=tuple(view_of(name, grain) for name, grain in grains),
        divided_name=reading.divided_name,
        ledger=None if reading.accounts is None else _books(reading, reading.accounts),
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
        top=tuple(_top(reading, i, rank) for rank, i in enumerate(reading.order[:TOP], start=1)),
        more=f"{len(hidden)} more, together {rest}" if hidden else "",
        most_negative=signed(-reading.largest, reading.largest),
        most_positive=signed(reading.largest, reading.largest),
    )


def _tip(reading: Reading, i: int, rank: int) -> str:
    share = reading.share(reading.scores[i])
    lines = [
        f"“{cut(visible(reading.features[i].label), LABEL)}”",
        f"{precise(reading.scores[i])} {reading.target.unit}",
        f"rank {rank} of {len(reading.scores)}",
        place(reading.features[i]),
    ]
    if share is not None:
        lines.insert(2, f"{percent(share)} of {reading.divided_name}")
    if reading.standard_errors is not None:
        lines.insert(2, f"standard error {reading.standard_errors[i]:.2g}")
    if reading.position_scores is not None:
        lines.append(f"its position embedding: {precise(reading.position_scores[i])}")
    return "\n".join(line for line in lines if line)


def _top(reading: Reading, i: int, rank: int) -> _Bar:
    share = reading.share(reading.scores[i])
    at = reading.strength(i)
    return _Bar(
        name=visible(reading.features[i].label),
        number=signed(reading.scores[i], reading.largest),
        share="" if share is None else percent(share),
        # Its length tells the size, so that a short bar need not be pale.
        step=step_of(math.copysign(0.6, at)),
        left=round(50 + min(0.0, 50 * at), 3),
        width=round(50 * abs(at), 3),
        tip=_tip(reading, i, rank),
    )


def _books(reading: Reading, accounts: Accounts) -> _Books:
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
            _Bar(
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
    return _Books(
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


def _raw_table(attribution: Attribution, shown: Sequence[Reading]) -> dict[str, Any]:
    """Every number with all its digits: a row per feature, a column per target."""
    dtype = attribution.scores.dtype
    columns: list[tuple[str, list[str]]] = []
    for reading in shown:
        name = "share" if len(shown) == 1 else visible(reading.target.label)
        columns.append((name, [exact(score, dtype) for score in reading.scores]))
        if reading.position_scores is not None:
            positions = [exact(score, dtype) for score in reading.position_scores]
            columns.append(("position embedding" if len(shown) == 1 else f"{name}, position embedding", positions))
    return {
        "columns": [name for name, _ in columns],
        "rows": [
            (i, visible(feature.label), place(feature), [values[i] for _, values in columns])
            for i, feature in enumerate(attribution.features)
        ],
    }
