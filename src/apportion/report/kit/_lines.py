"""Parts of what the terminal shows: coloured strips, bars, grids and the ledger."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import JustifyMethod, RenderableType
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

from apportion.report.kit._accounts import Accounts
from apportion.report.kit._colour import EITHER, sign_colour
from apportion.report.kit._labels import ends_line, visible
from apportion.report.kit._numbers import percent, signed
from apportion.report.kit._target_shares import TargetShares

# With several targets, a text beyond this many features appears by its largest shares alone.
MAX_STRIP_OF_SEVERAL = 120


BAR = 20


LINE_LABEL = 24


# Shares below this fraction of the largest get no colour and no mark, …
FAINT = 0.06


# … and those below this one have coloured text only, since a pale block would stand out on a dark terminal.
BLOCK = 0.2


def strip(shares: TargetShares, *, coloured: bool) -> Iterator[RenderableType]:
    """The features in reading order, each on its colour or, without colours, with its mark."""
    indented = any(block.heading for block in shares.blocks)
    for block in shares.blocks:
        if block.heading:
            yield Text(block.heading, style="dim")
        text = Text()
        for i in block.members:
            feature, strength = shares.features[i], shares.strength(i)
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


def bar(strength: float) -> str:
    """A bar of up to `BAR` cells, solid where the share adds and hatched where it takes away."""
    cells = abs(strength) * BAR
    if strength < 0:
        return "▒" * max(1, round(cells))
    whole, eighths = divmod(round(cells * 8), 8)
    return "█" * whole + " ▏▎▍▌▋▊▉"[eighths].strip()


def ledger_table(shares: TargetShares, accounts: Accounts) -> Table:
    table = grid("left", "right", "right")
    for row in accounts.rows:
        share = shares.share(row.amount)
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
