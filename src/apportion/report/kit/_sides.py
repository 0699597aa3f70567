"""A side: features of a second order as a page shows them, rows or columns of a matrix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from apportion.core import Feature
from apportion.report.kit._image_panel import ImagePanel


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side as the template shows it: a text, pictures, or both, with what each part has with the whole other side.

    `low` and `high` are the ends of the text's colour scale.
    """

    heading: str
    words: tuple[dict[str, Any], ...]
    image_views: tuple[ImagePanel, ...]
    low: str
    high: str

    @property
    def maps(self) -> list[int]:
        """Which of the script's maps are its pictures'."""
        return [view.map for view in self.image_views if view.map is not None]


def any_special(*sides: Iterable[Feature]) -> bool:
    """Whether there are special tokens, which lists of the largest pairs leave out."""
    return any(feature.template for side in sides for feature in side)
