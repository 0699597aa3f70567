"""A column of an evaluation: one number per item and method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower", ""]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One number that a measure finds.

    Args:
        name: As tables show it, such as `"abpc"`; no other measure has it.
        better: Which values speak for an explanation; empty where neither does.
        meaning: What it is, in one line, with its unit.
        curve: Whether it is a list of numbers, for a picture, rather than one.
    """

    name: str
    better: Better
    meaning: str
    curve: bool = False


#: How tables call it.
RANDOM = "random"
