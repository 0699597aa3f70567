"""An answer in the terminal: for each of its tokens what it rests on, a line each."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from apportion._attribution import Attribution
from apportion.report._colour import sign_colour
from apportion.report._labels import short
from apportion.report._numbers import signed
from apportion.report._reading import readings

MAX_TOKENS = 60
SOURCES = 3
LABEL = 16


def answer_table(attribution: Attribution, *, coloured: bool) -> Table:
    """The tokens of an answer with their values and the earlier tokens with the largest shares."""
    shown = readings(attribution, at_most=MAX_TOKENS)
    largest = max((abs(reading.target.value) for reading in shown), default=0.0)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for _ in range(SOURCES):
        table.add_column(no_wrap=True, overflow="ellipsis")
    unit = shown[0].target.unit
    table.add_row(*(Text(text, style="dim") for text in ("token", unit, "largest shares", "", "")))
    for reading in shown:
        feature = reading.features[reading.target.feature or 0]
        cells = [
            Text(short(feature.label, LABEL), style="dim" if feature.template else "bold"),
            Text(signed(reading.target.value, largest)),
        ]
        for i in reading.order[:SOURCES]:
            if reading.scores[i] != 0:
                share = Text(short(reading.features[i].label, LABEL))
                colour = sign_colour(reading.scores[i]) if coloured else ""
                cells.append(share.append(f" {signed(reading.scores[i], reading.largest)}", style=colour or "dim"))
        table.add_row(*cells)
    if hidden := len(attribution) - len(shown):
        table.add_row(Text(f"… and {hidden} more: take one by its index, such as a[{len(shown)}].", style="dim"))
    return table
