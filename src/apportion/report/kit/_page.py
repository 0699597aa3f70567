"""Parts of pages: cells, bars, the ledger, and the templates they are written with."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from typing import Any

import jinja2

from apportion.report.kit._accounts import Accounts, Row
from apportion.report.kit._blocks import place
from apportion.report.kit._colour import DARK, LIGHT, Scale
from apportion.report.kit._labels import cut, ends_line, visible
from apportion.report.kit._numbers import percent, precise, signed
from apportion.report.kit._target_shares import TargetShares

# The scale in steps, so that a page has one style rule per step instead of one per feature.
STEPS = 24


PAGE_TOP = 10


PAGE_LABEL = 100


PREDICTIONS = 5


# Beyond this the text is set smaller.
LONG = 120


# Neighbouring segments of the ledger differ in strength, in this order for each sign.
SHADES = (0.75, 0.5, 0.3)


# The single biases behind a line of the ledger can be hundreds.
MAX_PARTS = 40


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
class TextView:
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


@cache
def environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("apportion.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def pages_in_one(title: str, parts: Sequence[tuple[str, str]], notes: Sequence[str] = ()) -> str:
    """Fragments below each other, with their headings, and notes as one page that asks nothing of the network."""
    return environment().get_template("several_page.html").render(title=title, parts=parts, notes=notes)


def surface(scope: str = "apportion") -> dict[str, Any]:
    """What every style sheet reads.

    Args:
        scope: The class of the element that the styles hold for.
    """
    return {"scope": scope, "light": steps_of(LIGHT), "dark": steps_of(DARK), "panels": (), "grains": ()}


def own_scope() -> str:
    """A name of its own, since the same result may be shown twice in one notebook."""
    return f"apportion-{secrets.token_hex(4)}"


def small_fragment(template: str, context: Mapping[str, Any]) -> str:
    """A fragment for a notebook's output."""
    return environment().get_template(template).render(**surface(own_scope()), **context)


def small_page(template: str, title: str, context: Mapping[str, Any]) -> str:
    """A page that holds what the fragment of the same template and context does."""
    content = {**surface(), **context, "title": title, "content_template": template}
    return environment().get_template("small_page.html").render(content)


def steps_of(scale: Scale) -> list[tuple[str, str, str]]:
    """Name, background and text colour of every step of the scale."""
    places = [i / STEPS for i in range(-STEPS, STEPS + 1)]
    return [(step_of(at), scale.background(at), scale.text(at)) for at in places]


def step_of(at: float) -> str:
    step = round(at * STEPS)
    return "z" if step == 0 else f"{'n' if step < 0 else 'p'}{abs(step)}"


def text_view(name: str, shares: TargetShares) -> TextView:
    ranks = {i: rank for rank, i in enumerate(shares.order, start=1)}
    blocks = []
    for block in shares.blocks:
        cells = []
        for i in block.members:
            feature = shares.features[i]
            label = visible(feature.label)
            space = label[: len(label) - len(label.lstrip(" "))]
            cells.append(
                _Cell(
                    place=f"{feature.part}{feature.positions[0] if feature.positions else i}",
                    space=space,
                    label=label[len(space) :],
                    step=step_of(shares.strength(i)),
                    number=signed(shares.scores[i], shares.largest),
                    tip=_tip(shares, i, ranks[i]),
                    template=feature.template,
                    ends_line=ends_line(feature),
                )
            )
        blocks.append((block.heading, tuple(cells)))
    hidden = shares.order[PAGE_TOP:]
    rest = signed(sum((shares.scores[i] for i in hidden), 0.0), shares.largest)
    return TextView(
        name=name,
        blocks=tuple(blocks),
        top=tuple(bar_of(shares, i, rank) for rank, i in enumerate(shares.order[:PAGE_TOP], start=1)),
        more=f"{len(hidden)} more, together {rest}" if hidden else "",
        most_negative=signed(-shares.largest, shares.largest),
        most_positive=signed(shares.largest, shares.largest),
    )


def _tip(shares: TargetShares, i: int, rank: int, count: int | None = None) -> str:
    share = shares.share(shares.scores[i])
    lines = [
        f"“{cut(visible(shares.features[i].label), PAGE_LABEL)}”",
        f"{precise(shares.scores[i])} {shares.target.unit}",
        f"rank {rank} of {len(shares.scores) if count is None else count}",
        place(shares.features[i]) if shares.features[i].of_text else "",
    ]
    if share is not None:
        lines.insert(2, f"{percent(share)} of {shares.divided_name}")
    if shares.standard_errors is not None:
        lines.insert(2, f"standard error {shares.standard_errors[i]:.2g}")
    if shares.position_scores is not None:
        lines.append(f"its position embedding: {precise(shares.position_scores[i])}")
    return "\n".join(line for line in lines if line)


def bar_of(shares: TargetShares, i: int, rank: int, count: int | None = None) -> Bar:
    share = shares.share(shares.scores[i])
    at = shares.strength(i)
    return Bar(
        name=visible(shares.features[i].label),
        number=signed(shares.scores[i], shares.largest),
        share="" if share is None else percent(share),
        # Its length tells the size, so that a short bar need not be pale.
        step=step_of(math.copysign(0.6, at)),
        left=round(50 + min(0.0, 50 * at), 3),
        width=round(50 * abs(at), 3),
        tip=_tip(shares, i, rank, count),
    )


def books_of(shares: TargetShares, accounts: Accounts) -> Books:
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
        share = shares.share(row.amount)
        shown = "" if share is None else percent(share)
        tip = [visible(row.name), f"{precise(row.amount)} {shares.target.unit}", shown and f"{shown} of the total"]
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
