"""The terminal report: coloured tokens, the largest shares in numbers, and the ledger."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from apportion.report.attribution._answer import of_answer, summed
from apportion.report.attribution._answer_terminal import answer_table
from apportion.report.kit import (
    LINE_LABEL,
    MAX_STRIP_OF_SEVERAL,
    Report,
    TargetShares,
    bar,
    grid,
    image_lines,
    image_views_of,
    largest_on,
    ledger_table,
    percent,
    short,
    sign_colour,
    signed,
    strip,
    target_shares,
    text_members,
    visible,
)
from apportion.results import Attribution

MAX_TARGETS = 6
TOP = 6
TOP_OF_SEVERAL = 4


def terminal(attribution: Attribution) -> RenderableType:
    """The attribution as something that `rich.print` can show, in colour where the console has colours."""
    return Report(lambda width, coloured: _report(attribution, coloured=coloured))


def _report(attribution: Attribution, *, coloured: bool) -> Iterator[RenderableType]:
    yield _title(attribution)
    if of_answer(attribution):
        yield from _answer(attribution, coloured=coloured)
        return
    shown = target_shares(attribution, at_most=MAX_TARGETS, of=text_members(attribution.features))
    if len(shown) == 1:
        yield from _whole(shown[0], attribution, coloured=coloured)
        return
    maps = _Maps(attribution)
    yield from _prediction(attribution)
    for t, shares in enumerate(shown):
        yield Text()
        yield from _compact(shares, coloured=coloured)
        yield from maps.lines(t, coloured=coloured, compact=True)
    if hidden := len(attribution) - len(shown):
        yield Text()
        noun = "target" if hidden == 1 else "targets"
        yield Text(f"… and {hidden} more {noun}: take one by its index, such as a[{len(shown)}].", style="dim")


def _answer(attribution: Attribution, *, coloured: bool) -> Iterator[RenderableType]:
    whole = summed(attribution)
    (total,) = target_shares(whole, of=text_members(attribution.features))
    yield _target(total)
    yield Text()
    if (maps := _Maps(whole)).image_views:
        yield from maps.lines(0, coloured=coloured)
        yield Text()
    yield from strip(total, coloured=coloured)
    yield Text()
    yield answer_table(attribution, coloured=coloured)


def _whole(shares: TargetShares, attribution: Attribution, *, coloured: bool) -> Iterator[RenderableType]:
    yield _target(shares)
    yield from _prediction(attribution)
    maps = _Maps(attribution)
    if maps.image_views:
        yield Text()
        yield from maps.lines(0, coloured=coloured)
    if shares.features:
        yield Text()
        yield from strip(shares, coloured=coloured)
        yield Text()
        yield Text("largest shares of the text" if maps.image_views else "largest shares", style="dim")
        yield Padding(_top(shares, coloured=coloured), (0, 0, 0, 2))
    if shares.accounts is not None:
        yield Text()
        yield Text("ledger", style="dim")
        yield Padding(ledger_table(shares, shares.accounts), (0, 0, 0, 2))


def _compact(shares: TargetShares, *, coloured: bool) -> Iterator[RenderableType]:
    yield _target(shares)
    if 0 < len(shares.features) <= MAX_STRIP_OF_SEVERAL:
        yield from strip(shares, coloured=coloured)
    line = Text(style="dim")
    for i in shares.order[:TOP_OF_SEVERAL]:
        line.append(f"{short(shares.features[i].label, LINE_LABEL)} {signed(shares.scores[i], shares.largest)}   ")
    if shares.accounts is not None:
        line.append(f"residual {shares.accounts.relative_residual:.0e} relative".replace("-", "−"))
    yield line


class _Maps:
    """The pictures of an attribution, and the colour scale that all of its targets share."""

    def __init__(self, attribution: Attribution) -> None:
        self.image_views = image_views_of(attribution.features, attribution.pictures)
        self.every_shares = target_shares(attribution, at_most=MAX_TARGETS) if self.image_views else []
        self.largest = largest_on(self.image_views, self.every_shares)

    def lines(self, target: int, *, coloured: bool, compact: bool = False) -> Iterator[RenderableType]:
        for image_view in self.image_views:
            yield from image_lines(
                image_view, self.every_shares[target], self.largest, coloured=coloured, compact=compact
            )


def _title(attribution: Attribution) -> Text:
    title = Text(attribution.method, style="bold")
    if attribution.model:
        title.append(f"  {visible(attribution.model)}", style="not bold dim")
    return title


def _target(shares: TargetShares) -> Text:
    target = shares.target
    line = Text(visible(target.label), style="bold")
    return line.append(f"   {signed(target.value, abs(target.value))} {target.unit}", style="not bold")


def _prediction(attribution: Attribution) -> Iterator[Text]:
    if attribution.prediction:
        line = Text("predicted  ", style="dim")
        for label, probability in attribution.prediction[:5]:
            line.append(short(label, LINE_LABEL), style="not dim")
            line.append(f" {100 * probability:.1f}%   ")
        yield line


def _top(shares: TargetShares, *, coloured: bool) -> Table:
    table = grid("left", "right", "right", "left", "left")
    for i in shares.order[:TOP]:
        feature, score, strength = shares.features[i], shares.scores[i], shares.strength(i)
        share = shares.share(score)
        amount = Text(signed(score, shares.largest))
        if shares.standard_errors is not None:
            amount.append(f" ± {shares.standard_errors[i]:.2g}", style="dim")
        place = f"at {feature.positions[0]}" if feature.positions else ""
        drawn = Text(bar(strength), style=sign_colour(score) if coloured else "")
        table.add_row(
            short(feature.label, LINE_LABEL),
            Text(place, style="dim"),
            amount,
            Text("" if share is None else percent(share), style="dim", justify="right"),
            drawn,
        )
    hidden = len(shares.scores) - TOP
    if hidden > 0:
        rest = sum(shares.scores[i] for i in shares.order[TOP:])
        table.add_row(Text(f"{hidden} more", style="dim"), "", Text(signed(rest, shares.largest), style="dim"), "", "")
    return table
