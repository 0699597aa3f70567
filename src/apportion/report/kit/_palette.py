"""Colours of methods: apart for colour-blind readers too, since no two methods share both colour and dashes."""

from __future__ import annotations

# The hues of Okabe and Ito's palette, with the lightness that each surface needs; yellow can be seen on neither.
ON_LIGHT = ("#0072b2", "#d55e00", "#008a64", "#b14a8b", "#9a6c00", "#2f96d6", "#4b5058")
ON_DARK = ("#3f9fe0", "#f0803c", "#22b98b", "#dd8fbf", "#e0aa33", "#86cdf5", "#c3c8cf")
# In SVG's notation, with the same lengths for matplotlib.
DASHES = ("", "6 2.5", "2 2")
RANDOM_ON_LIGHT, RANDOM_ON_DARK = "#7d8794", "#7f8996"


def look(place: int) -> tuple[int, str]:
    """The number of the colour, and the dashes, of the method at a place of the run's list."""
    return place % len(ON_LIGHT), DASHES[place % len(DASHES)]
