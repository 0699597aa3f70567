"""An answer in the terminal: for each of its tokens what it rests on, a line each."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from apportion.report.kit import image_views_of, short, sign_colour, signed, target_shares, text_members
from apportion.results import Attribution

MAX_TOKENS = 60
SOURCES = 3
LABEL = 16


def answer_table(attribution: Attribution, *, coloured: bool) -> Table:
    """The tokens of an answer with their values and the earlier tokens with the largest shares."""
    shown = target_shares(attribution, at_most=MAX_TOKENS)
    largest = max((abs(shares.target.value) for shares in shown), default=0.0)
    text, image_views = (
        set(text_members(attribution.features)),
        image_views_of(attribution.features, attribution.pictures),
    )
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for _ in range(SOURCES + bool(image_views)):
        table.add_column(no_wrap=True, overflow="ellipsis")
    unit = shown[0].target.unit
    names = ["token", unit, *(["images"] if image_views else []), "largest shares", "", ""]
    table.add_row(*(Text(name, style="dim") for name in names))
    for shares in shown:
        feature = shares.features[shares.target.feature or 0]
        cells = [
            Text(short(feature.label, LABEL), style="dim" if feature.template else "bold"),
            Text(signed(shares.target.value, largest)),
        ]
        if image_views:
            amount = sum(shares.scores[i] for image_view in image_views for i in image_view.members)
            cells.append(Text(signed(amount, largest), style=sign_colour(amount) if coloured else "dim"))
        for i in [i for i in shares.order if i in text][:SOURCES]:
            if shares.scores[i] != 0:
                share = Text(short(shares.features[i].label, LABEL))
                colour = sign_colour(shares.scores[i]) if coloured else ""
                cells.append(share.append(f" {signed(shares.scores[i], shares.largest)}", style=colour or "dim"))
        table.add_row(*cells)
    if hidden := len(attribution) - len(shown):
        table.add_row(Text(f"… and {hidden} more: take one by its index, such as a[{len(shown)}].", style="dim"))
    return table
