"""An axis: where a value stands along a line of pixels, and the round values that are written beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Values from `low` to `high`, drawn from the pixel `start` to `end`.

    Args:
        low: Below `high`; above 0 on a logarithmic axis.
        high: The other end.
        start: Where `low` stands.
        end: Where `high` stands.
        log: Whether equal ratios have equal lengths.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value, to a tenth."""
        low, high, at = map(math.log10, (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        return round(self.start + (self.end - self.start) * (at - low) / (high - low), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Pixels and labels of a handful of round values."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            return [(self(10.0**power), f"{10.0**power:g}") for power in powers]
        step = _round_step((self.high - self.low) / 6)
        decimals = max(0, -math.floor(math.log10(step)))
        places = range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)
        return [(self(k * step), f"{k * step:.{decimals}f}".replace("-", "−")) for k in places]


def reaching(values: Iterable[float], *, start: float, end: float, log: bool = False) -> Axis:
    """The axis on which all the finite values stand, with a little room, or from power to power of ten."""
    finite = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    low, high = (min(finite), max(finite)) if finite else (1.0, 1.0)
    if log:
        # A hair of room keeps what stands on a power of ten from making another decade.
        low, high = 10.0 ** math.floor(math.log10(low) + 1e-9), 10.0 ** math.ceil(math.log10(high) - 1e-9)
        return Axis(low=low, high=high if high > low else 10 * low, start=start, end=end, log=True)
    room = 0.04 * (high - low) or 0.5 * abs(high) or 0.5
    return Axis(low=low - room, high=high + room, start=start, end=end)


def _round_step(about: float) -> float:
    """The value of 1, 2 or 5 times a power of ten that is nearest above."""
    power = 10.0 ** math.floor(math.log10(about))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= about * (1 - 1e-9))
