"""Accounts: the ledger's lines as rows that fit a page, the lines of many layers summed into one row."""

from __future__ import annotations

import re
from dataclasses import dataclass

from apportion.core import Ledger
from apportion.report.kit._colour import largest_size

# From this many layers on, one row per layer hides the rest of the ledger.
MANY_LAYERS = 4
_LAYER_LINE = re.compile(r"(.+?),? layer \d+")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One amount of the ledger.

    Args:
        name: The line's name, such as `"softmax remainder (12 layers)"`.
        amount: In the target's unit.
        parts: The finer amounts that it sums, by name: the layers, or the ledger's own details.
    """

    name: str
    amount: float
    parts: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """One target's ledger in plain numbers: `total` = sum of the rows + `residual`."""

    rows: tuple[Row, ...]
    total: float
    residual: float
    relative_residual: float

    @property
    def largest(self) -> float:
        """The size of the largest amount, which decides on everyone's decimals."""
        return largest_size([self.total, *(row.amount for row in self.rows)])


def accounts_of(ledger: Ledger) -> Accounts:
    """The accounts of a ledger of one target, in the order of its lines."""
    layers: dict[str, list[str]] = {}
    for line in ledger.lines:
        if found := _LAYER_LINE.fullmatch(line):
            layers.setdefault(found[1], []).append(line)
    summed = {line: kind for kind, lines in layers.items() if len(lines) >= MANY_LAYERS for line in lines}
    rows: list[Row] = []
    for line, amount in ledger.lines.items():
        kind = summed.get(line)
        if kind is None:
            details = tuple((name, entry.item()) for name, entry in ledger.details.get(line, {}).items())
            rows.append(Row(name=line, amount=amount.item(), parts=details))
        elif line == layers[kind][0]:
            parts = tuple((other[len(kind) :].lstrip(", "), ledger.lines[other].item()) for other in layers[kind])
            name = f"{kind} ({len(parts)} layers)"
            rows.append(Row(name=name, amount=sum(part for _, part in parts), parts=parts))
    return Accounts(
        rows=tuple(rows),
        total=ledger.total.item(),
        residual=ledger.residual.item(),
        relative_residual=ledger.relative_residual.item(),
    )
