"""Numbers as a reader compares them: always signed, with the same decimals down a column."""

from __future__ import annotations

import math

import torch


def signed(value: float, largest: float) -> str:
    """`value` with its sign and as many decimals as `largest` needs for four digits; an exact 0 has no sign."""
    if not math.isfinite(value):
        return str(value)
    if largest != 0 and not 1e-4 <= largest < 1e6:
        text = f"{value:+.2e}"
    else:
        decimals = 3 if largest == 0 else max(0, 3 - math.floor(math.log10(largest)))
        text = f"{value:+.{decimals}f}"
    return (text[1:] if value == 0 else text).replace("-", "−")


def precise(value: float) -> str:
    """`value` with its sign and up to six digits."""
    return (f"{value:+.6g}" if value != 0 else "0").replace("-", "−")


def exact(value: float, dtype: torch.dtype) -> str:
    """The shortest digits that give back `value` in its dtype, with the ASCII minus that programs read."""
    if dtype == torch.float64 or not math.isfinite(value):
        return repr(value)
    digits = next(n for n in range(1, 10) if torch.tensor(float(f"{value:.{n}g}"), dtype=dtype).item() == value)
    return repr(float(f"{value:.{digits}g}"))


def percent(fraction: float) -> str:
    """A signed percentage with one decimal."""
    return f"{100 * fraction:+.1f}%".replace("-", "−")


def grid_of(count: int) -> tuple[int, int]:
    """Rows and columns of the grid nearest to a square that holds so many cells."""
    columns = math.isqrt(max(0, count - 1)) + 1
    return -(-count // columns), columns
