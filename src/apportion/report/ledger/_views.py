"""The ledger by itself: its lines, total and residual, for each target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from apportion.core import Feature, Ledger
from apportion.report.kit import (
    FIGURE_LABEL,
    Accounts,
    TargetShares,
    bar_figure,
    books_of,
    colour_map,
    figure_class,
    largest_size,
    ledger_table,
    short,
    signed,
    small_fragment,
    small_page,
    target_shares_of,
)
from apportion.results import Explained

if TYPE_CHECKING:
    import matplotlib.figure

# More targets than this are for `Ledger[i]`, one by one.
MAX_TARGETS = 6


def ledger_terminal(ledger: Ledger) -> RenderableType:
    """Each target's lines with their percentages, its total and its residual."""
    parts: list[RenderableType] = []
    for label, shares, accounts in _books(ledger):
        parts += [Text(label, style="dim"), Padding(ledger_table(shares, accounts), (0, 0, 0, 2))]
    return Group(*parts, *([Text(hidden, style="dim")] if (hidden := _hidden(ledger)) else []))


def ledger_fragment(ledger: Ledger) -> str:
    """Each target's lines as a bar and a table."""
    return small_fragment("ledgers.html", _context(ledger))


def ledger_page(ledger: Ledger) -> str:
    """The same as one HTML file."""
    return small_page("ledgers.html", "Ledger", _context(ledger))


def ledger_figure(ledger: Ledger) -> matplotlib.figure.Figure:
    """A bar for each line and the residual; of several targets, a heat map of targets and lines."""
    books = _books(ledger)
    rows = [[*(row.amount for row in accounts.rows), accounts.residual] for _, _, accounts in books]
    names = [*(row.name for row in books[0][2].rows), "residual"]
    if len(rows) == 1:
        accounts = books[0][2]
        numbers = [signed(amount, accounts.largest) for amount in rows[0]]
        canvas, _ = bar_figure(figure_class(), names, rows[0], numbers, longest=2 * FIGURE_LABEL)
        canvas.suptitle(f"total {signed(accounts.total, accounts.largest)}", x=0.01, ha="left", fontsize=10)
        return canvas
    canvas = figure_class()(figsize=(2.5 + 0.4 * len(names), 2.2 + 0.3 * len(rows)), layout="constrained")
    axes, largest = canvas.add_subplot(), largest_size(x for row in rows for x in row) or 1.0
    drawn = axes.imshow(rows, cmap=colour_map(), vmin=-largest, vmax=largest, aspect="auto")
    axes.set_xticks(range(len(names)), [short(name, FIGURE_LABEL) for name in names], rotation=90, fontsize=8)
    axes.set_yticks(range(len(rows)), [label for label, _, _ in books], fontsize=8)
    canvas.colorbar(drawn, ax=axes)
    return canvas


def _context(ledger: Ledger) -> dict[str, Any]:
    books = [(label, books_of(shares, accounts)) for label, shares, accounts in _books(ledger)]
    return {"ledgers": books, "hidden": _hidden(ledger)}


def _books(ledger: Ledger) -> list[tuple[str, TargetShares, Accounts]]:
    """What stands above each target's books, and the books."""
    if not ledger.total.ndim:
        return [("ledger", *_read(ledger))]
    shown = min(len(ledger.total), MAX_TARGETS)
    return [(f"ledger of target {i}", *_read(ledger[i])) for i in range(shown)]


def _read(ledger: Ledger) -> tuple[TargetShares, Accounts]:
    target = Explained(label="total", unit="", value=ledger.total.item())
    features = [Feature(label=name, kind="input") for name in ledger.lines]
    shares = target_shares_of(target, features, [amount.item() for amount in ledger.lines.values()], ledger=ledger)
    assert shares.accounts is not None
    return shares, shares.accounts


def _hidden(ledger: Ledger) -> str:
    count = len(ledger.total) - MAX_TARGETS if ledger.total.ndim else 0
    return f"… and {count} more: take one by its index, such as ledger[{MAX_TARGETS}]." if count > 0 else ""
