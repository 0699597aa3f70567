"""A pair: two things whose similarity is explained, such as an image and a caption."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Pair:
    """Two images or texts that a model compares, in any order."""

    first: Any
    second: Any
