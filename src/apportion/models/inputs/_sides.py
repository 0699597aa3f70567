"""The two sides of a pair of texts or images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from apportion.core import Pair
from apportion.models.inputs._images import is_image
from apportion.models.inputs._prompt import Prompt

#: Before the name of an input, in a pair's second side.
OTHER = "other_"

Sides = Literal["texts", "images"]


def sides_of(pair: Pair, *, sees: bool) -> Sides | None:
    """Whether a pair holds two texts or two images; None for one of each.

    Args:
        pair: The two things.
        sees: Whether the model reads images; of one that does not, everything is a text.
    """
    images = [sees and (is_image(side) or _is_pixels(side)) for side in (pair.first, pair.second)]
    if all(images):
        return "images"
    return None if any(images) else "texts"


def sides_given(given: Any, *, sees: bool) -> Sides | None:
    """The same of a prompt as it was given, of the first of several, or as it was prepared."""
    if is_pair(given):
        return sides_of(given if isinstance(given, Pair) else given[0], sees=sees)
    inputs = given.inputs if isinstance(given, Prompt) else {}
    return "texts" if f"{OTHER}input_ids" in inputs else "images" if f"{OTHER}pixel_values" in inputs else None


def is_pair(given: Any) -> bool:
    """Whether a pair was given, or several."""
    return isinstance(given, Pair) or (isinstance(given, list | tuple) and bool(given) and isinstance(given[0], Pair))


def _is_pixels(side: Any) -> bool:
    return isinstance(side, Mapping) and "pixel_values" in side
