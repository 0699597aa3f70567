"""A pair: two things whose similarity is explained, such as an image and a caption."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Pair:
    """Two things that a model compares, in any order: images or texts.

    Args:
        first: An image or a text.
        second: An image or a text.
    """

    first: Any
    second: Any
