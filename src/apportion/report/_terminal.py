"""The terminal report: coloured tokens, the largest shares in numbers, and the ledger."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import JustifyMethod, RenderableType
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

from apportion._attribution import Attribution
from apportion.report._accounts import Accounts
from apportion.report._answer import of_answer, summed
from apportion.report._answer_terminal import answer_table
from apportion.report._colour import EITHER, sign_colour
from apportion.report._console import Report, as_text
from apportion.report._labels import ends_line, short, visible
from apportion.report._numbers import percent, signed
from apportion.report._plate_terminal import plate_lines
from apportion.report._plate_view import largest_on
from apportion.report._plates import plates_of, text_members
from apportion.report._reading import Reading, readings

MAX_TARGETS = 6
# With several targets, a text beyond this many features appears by its largest shares alone.
MAX_STRIP_OF_SEVERAL = 120
TOP = 6
TOP_OF_SEVERAL = 4
BAR = 20
LABEL = 24
# Shares below this fraction of the largest get no colour and no mark, …
FAINT = 0.06
# … and those below this one have coloured text only, since a pale block would stand out on a dark terminal.
BLOCK = 0.2


def terminal(attribution: Attribution) -> RenderableType:
    """The attribution as something that `rich.print` can show, in colour where the console has colours."""
    return Report(lambda width, coloured: _report(attribution, coloured=coloured))


def terminal_text(attribution: Attribution) -> str:
    """The terminal report as text, coloured only where stdout is a terminal and `NO_COLOR` is not set."""
    return as_text(terminal(attribution))


def _report(attribution: Attribution, *, coloured: bool) -> Iterator[RenderableType]:
    yield _title(attribution)
    if of_answer(attribution):
        yield from _answer(attribution, coloured=coloured)
        return
    shown = readings(attribution, at_most=MAX_TARGETS, of=text_members(attribution.features))
    if len(shown) == 1:
        yield from _whole(shown[0], attribution, coloured=coloured)
        return
    maps = _Maps(attribution)
    yield from _prediction(attribution)
    for t, reading in enumerate(shown):
        yield Text()
        yield from _compact(reading, coloured=coloured)
        yield from maps.lines(t, coloured=coloured, compact=True)
    if hidden := len(attribution) - len(shown):
        yield Text()
        noun = "target" if hidden == 1 else "targets"
        yield Text(f"… and {hidden} more {noun}: take one by its index, such as a[{len(shown)}].", style="dim")


def _answer(attribution: Attribution, *, coloured: bool) -> Iterator[RenderableType]:
    whole = summed(attribution)
    (total,) = readings(whole, of=text_members(attribution.features))
    yield _target(total)
    yield Text()
    if (maps := _Maps(whole)).plates:
        yield from maps.lines(0, coloured=coloured)
        yield Text()
    yield from strip(total, coloured=coloured)
    yield Text()
    yield answer_table(attribution, coloured=coloured)


def _whole(reading: Reading, attribution: Attribution, *, coloured: bool) -> Iterator[RenderableType]:
    yield _target(reading)
    yield from _prediction(attribution)
    maps = _Maps(attribution)
    if maps.plates:
        yield Text()
        yield from maps.lines(0, coloured=coloured)
    if reading.features:
        yield Text()
        yield from strip(reading, coloured=coloured)
        yield Text()
        yield Text("largest shares of the text" if maps.plates else "largest shares", style="dim")
        yield Padding(_top(reading, coloured=coloured), (0, 0, 0, 2))
    if reading.accounts is not None:
        yield Text()
        yield Text("ledger", style="dim")
        yield Padding(ledger_table(reading, reading.accounts), (0, 0, 0, 2))


def _compact(reading: Reading, *, coloured: bool) -> Iterator[RenderableType]:
    yield _target(reading)
    if 0 < len(reading.features) <= MAX_STRIP_OF_SEVERAL:
        yield from strip(reading, coloured=coloured)
    line = Text(style="dim")
    for i in reading.order[:TOP_OF_SEVERAL]:
        line.append(f"{short(reading.features[i].label, LABEL)} {signed(reading.scores[i], reading.largest)}   ")
    if reading.accounts is not None:
        line.append(f"residual {reading.accounts.relative_residual:.0e} relative".replace("-", "−"))
    yield line


class _Maps:
    """The pictures of an attribution, and the colour scale that all of its targets share."""

    def __init__(self, attribution: Attribution) -> None:
        self.plates = plates_of(attribution.features, attribution.pictures)
        self.readings = readings(attribution, at_most=MAX_TARGETS) if self.plates else []
        self.largest = largest_on(self.plates, self.readings)

    def lines(self, target: int, *, coloured: bool, compact: bool = False) -> Iterator[RenderableType]:
        for plate in self.plates:
            yield from plate_lines(plate, self.readings[target], self.largest, coloured=coloured, compact=compact)


def _title(attribution: Attribution) -> Text:
    title = Text(attribution.method, style="bold")
    if attribution.model:
        title.append(f"  {visible(attribution.model)}", style="not bold dim")
    return title


def _target(reading: Reading) -> Text:
    target = reading.target
    line = Text(visible(target.label), style="bold")
    return line.append(f"   {signed(target.value, abs(target.value))} {target.unit}", style="not bold")


def _prediction(attribution: Attribution) -> Iterator[Text]:
    if attribution.prediction:
        line = Text("predicted  ", style="dim")
        for label, probability in attribution.prediction[:5]:
            line.append(short(label, LABEL), style="not dim")
            line.append(f" {100 * probability:.1f}%   ")
        yield line


def strip(reading: Reading, *, coloured: bool) -> Iterator[RenderableType]:
    """The features in reading order, each on its colour or, without colours, with its mark."""
    indented = any(block.heading for block in reading.blocks)
    for block in reading.blocks:
        if block.heading:
            yield Text(block.heading, style="dim")
        text = Text()
        for i in block.members:
            feature, strength = reading.features[i], reading.strength(i)
            style = _style(strength, template=feature.template) if coloured else Style(dim=feature.template)
            text.append(visible(feature.label), style=style)
            if not coloured:
                text.append(_mark(strength))
            if ends_line(feature) and i != block.members[-1]:
                text.append("\n")
        yield Padding(text, (0, 0, 0, 2 if indented else 0))


def _style(strength: float, *, template: bool) -> Style:
    if abs(strength) < FAINT:
        return Style(dim=template)
    if abs(strength) < BLOCK:
        # Dimmed colours could not be read, so a template token is italic here and below.
        return Style(color=sign_colour(strength), italic=template)
    return Style(color=EITHER.text(strength), bgcolor=EITHER.background(strength), italic=template)


def _mark(strength: float) -> str:
    """One to three signs after a feature: up to a third, two thirds, all of the largest share."""
    if abs(strength) < FAINT:
        return ""
    return f"[{('+' if strength > 0 else '−') * min(3, 1 + int(abs(strength) * 3))}]"


def _top(reading: Reading, *, coloured: bool) -> Table:
    table = grid("left", "right", "right", "left", "left")
    for i in reading.order[:TOP]:
        feature, score, strength = reading.features[i], reading.scores[i], reading.strength(i)
        share = reading.share(score)
        amount = Text(signed(score, reading.largest))
        if reading.standard_errors is not None:
            amount.append(f" ± {reading.standard_errors[i]:.2g}", style="dim")
        place = f"at {feature.positions[0]}" if feature.positions else ""
        drawn = Text(bar(strength), style=sign_colour(score) if coloured else "")
        table.add_row(
            short(feature.label, LABEL),
            Text(place, style="dim"),
            amount,
            Text("" if share is None else percent(share), style="dim", justify="right"),
            drawn,
        )
    hidden = len(reading.scores) - TOP
    if hidden > 0:
        rest = sum(reading.scores[i] for i in reading.order[TOP:])
        table.add_row(Text(f"{hidden} more", style="dim"), "", Text(signed(rest, reading.largest), style="dim"), "", "")
    return table


def bar(strength: float) -> str:
    """A bar of up to `BAR` cells, solid where the share adds and hatched where it takes away."""
    cells = abs(strength) * BAR
    if strength < 0:
        return "▒" * max(1, round(cells))
    whole, eighths = divmod(round(cells * 8), 8)
    return "█" * whole + " ▏▎▍▌▋▊▉"[eighths].strip()


def ledger_table(reading: Reading, accounts: Accounts) -> Table:
    table = grid("left", "right", "right")
    for row in accounts.rows:
        share = reading.share(row.amount)
        table.add_row(
            visible(row.name),
            signed(row.amount, accounts.largest),
            Text("" if share is None else percent(share), style="dim"),
        )
    table.add_row(Text("total", style="bold"), Text(signed(accounts.total, accounts.largest), style="bold"), "")
    residual = f"{accounts.residual:+.1e}".replace("-", "−") if accounts.residual else "0"
    relative = f"{accounts.relative_residual:.0e} relative".replace("-", "−") if accounts.residual else ""
    table.add_row("residual", residual, Text(relative, style="dim"))
    return table


def grid(*justify: JustifyMethod) -> Table:
    table = Table.grid(padding=(0, 3, 0, 0))
    for column, side in enumerate(justify):
        # In a narrow terminal the labels in front wrap, so that the numbers keep their digits.
        table.add_column(justify=side, no_wrap=column > 0)
    return table
