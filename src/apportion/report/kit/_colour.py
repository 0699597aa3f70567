"""One diverging colour scale: blue takes away from the target, orange adds to it, the surface itself is nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

# WCAG 2 asks this contrast of ordinary text.
READABLE = 4.5


def largest_size(scores: Iterable[float]) -> float:
    """The largest finite absolute score, at which the scale ends; 0 when there is none."""
    return max((abs(score) for score in scores if math.isfinite(score)), default=0.0)


def strength(score: float, largest: float) -> float:
    """Where `score` lies on the scale, from −1 to 1; 0 for what is not finite and where all scores are 0."""
    if not math.isfinite(score) or largest == 0:
        return 0.0
    return max(-1.0, min(1.0, score / largest))


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The colour scale on one surface.

    Args:
        surface: Colour of strength 0, as `#rrggbb`.
        ink: Colour of text on the surface.
        negative: Colours of strengths below 0, evenly spaced, ending at −1.
        positive: Colours of strengths above 0, evenly spaced, ending at 1.
    """

    surface: str
    ink: str
    negative: tuple[str, ...]
    positive: tuple[str, ...]

    def background(self, at: float) -> str:
        """The colour of strength `at`, between the two nearest stops."""
        stops = (self.surface, *(self.negative if at < 0 else self.positive))
        place = min(1.0, abs(at)) * (len(stops) - 1)
        low = min(int(place), len(stops) - 2)
        mixed = (a + (b - a) * (place - low) for a, b in zip(_rgb(stops[low]), _rgb(stops[low + 1]), strict=True))
        return "#" + "".join(f"{round(channel):02x}" for channel in mixed)

    def text(self, at: float) -> str:
        """A colour of text that can be read on `background(at)`: the ink, or else black or white."""
        background = self.background(at)
        if contrast(self.ink, background) >= READABLE:
            return self.ink
        # One of the two always reaches sqrt(21) = 4.58.
        return max("#000000", "#ffffff", key=lambda colour: contrast(colour, background))


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, from 1 to 21.

    Source:
        WCAG 2.2, "contrast ratio" and "relative luminance".
    """
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _luminance(colour: str) -> float:
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in _rgb(colour)))
    return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


LIGHT = Scale(
    surface="#ffffff",
    ink="#1b1e23",
    negative=("#dbe9f6", "#94c0e6", "#3f87c9", "#0f559c"),
    positive=("#fde6d5", "#fab27f", "#e8701a", "#b34700"),
)
DARK = Scale(
    surface="#16181d",
    ink="#e6e8eb",
    negative=("#1a2c42", "#1f4d7d", "#3a82c9", "#86bff7"),
    positive=("#3b2617", "#7d4013", "#d0660f", "#ffa257"),
)
# A terminal does not tell its background, so here strength is saturation at a middle lightness.
EITHER = Scale(
    surface="#a3a3a3",
    ink="#000000",
    negative=("#8fb2d9", "#6ba6ea", "#429dff"),
    positive=("#d6ab84", "#eb994f", "#ff8419"),
)


def sign_colour(score: float) -> str:
    """The colour of a sign, for text and bars on any surface; it can be read on black and on white."""
    return "#2f7fd1" if score < 0 else "#c26413"
