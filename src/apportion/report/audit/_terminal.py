"""The audit as a table: for each module what its operations were taken for, with alike layers as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from apportion.relevance import Audit, AuditRow
from apportion.report.audit._rows import gathered, merged

# As in the terminal report: longer lines are hard to read, however wide the terminal.
MAX_WIDTH = 110
MAX_BROKEN = 5


def audit_table(audit: Audit, *, every: bool = False) -> RenderableType:
    """An audit as something that `rich.print` can show.

    Args:
        audit: What was found.
        every: Show every row and every broken promise; otherwise layers that were treated alike are merged.
    """
    rows = list(audit.rows) if every else gathered(merged(audit.rows))
    parts: list[RenderableType] = [Text(str(audit.composite), style="bold"), Text()]
    return Constrain(Group(*parts, *_modules(rows), Text(), *_verdict(audit, every=every)), MAX_WIDTH)


def _modules(rows: Sequence[AuditRow]) -> Iterator[RenderableType]:
    """A heading per module, then its rows, in columns that are equally wide for all."""
    header = ("operation", "taken for", "rule", "nodes")
    cells = [header, *((row.operation, row.kind, row.rule, str(row.count)) for row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    yield _table([tuple(Text(name, style="dim") for name in header)], widths)
    modules: dict[str, list[AuditRow]] = {}
    for row in rows:
        modules.setdefault(row.module, []).append(row)
    for module, members in modules.items():
        yield Text(module or "(model)", style="cyan")
        yield _table([_cells(row) for row in members], widths)


def _cells(row: AuditRow) -> tuple[Text, ...]:
    # What keeps its derivative is most of a model, and least of what a reader looks for.
    style = "dim" if row.kind == "linear" else ""
    return tuple(Text(cell, style=style) for cell in (row.operation, row.kind, row.rule, str(row.count)))


def _table(rows: Iterable[tuple[Text, ...]], widths: Sequence[int]) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(ratio=1, overflow="fold")  # the names of operations wrap, so that the rules stay in one line
    for width, side in zip(widths[1:], ("left", "left", "right"), strict=True):
        table.add_column(width=width, justify=side)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*row)
    return Padding(table, (0, 0, 0, 2))


def _verdict(audit: Audit, *, every: bool) -> Iterator[RenderableType]:
    yield Text(f"{audit.reached} of {audit.recorded} nodes carry relevance.", style="dim")
    if not audit.missing:
        yield Text("✓ every promised rule was applied", style="bold green")
        return
    count = len(audit.missing)
    broken = "1 promise was broken:" if count == 1 else f"{count} promises were broken:"
    yield Text(f"✗ {broken}", style="bold red")
    shown = audit.missing if every else audit.missing[:MAX_BROKEN]
    for promise in shown:
        yield Padding(Text(promise, style="red"), (0, 0, 0, 2))
    if count > len(shown):
        yield Padding(Text(f"… and {count - len(shown)} more", style="dim"), (0, 0, 0, 2))
