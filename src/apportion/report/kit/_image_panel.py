"""Plates on a page: the photograph, the heat map over it, and the numbers that the page's script draws from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from apportion.report.kit._image_views import ImageView
from apportion.report.kit._labels import visible
from apportion.report.kit._numbers import percent, signed
from apportion.report.kit._paint import ADDS, TAKES, data_uri, heat, photograph, strengths
from apportion.report.kit._target_shares import TargetShares

#: Regions that are outlined where no script lets the reader choose, and named to those who cannot see.
IMAGE_TOP = 5
#: In CSS pixels: pictures are shown at least and at most so wide, and so high. Small ones stand beside each other.
WIDE, HIGH, SMALL = (384, 560), (96, 560), 208
#: With more regions than this, a colour scale ends where this part of the shares that are not 0 is smaller.
MANY, ENOUGH = 1000, 0.99
#: How high bands such as spectrograms are shown at least.
BAND = 144
#: Digits of each share that the script knows.
DIGITS = 5


@dataclass(frozen=True, kw_only=True)
class ImagePanel:
    """One target's map of one picture, as the template shows it.

    Args:
        label: Of the picture, where there are several.
        photo: Which of the page's photographs it lies on.
        map: Which of the script's maps it is; None without a script.
        width: In CSS pixels.
        ratio: Width to height, as CSS has it.
        coloured: Whether the picture has colours.
        rows: Of the image_view's cells.
        columns: Of the image_view's cells.
        heat: The map as an image.
        outline: Of the largest regions, as an SVG path; where the script draws, it is empty.
        low: Where the colour scale begins.
        high: Where it ends.
        negative: Whether anything takes away.
        sum: Of the picture's shares.
        spoken: All this in words.
    """

    label: str
    photo: int
    map: int | None
    width: int
    ratio: str
    coloured: bool
    rows: int
    columns: int
    heat: str
    outline: str
    low: str
    high: str
    negative: bool
    sum: str
    spoken: str


@dataclass
class Drawing:
    """What a page draws: its photographs, each once; and for its script the image_views and maps.

    Args:
        scripted: Whether the page has a script that draws.
        small: Whether many pictures stand beside each other.
        members: Whether the script must know which features a image_view has.
    """

    scripted: bool = True
    small: bool = False
    members: bool = False
    photos: list[str] = field(default_factory=list)
    maps: list[dict[str, Any]] = field(default_factory=list)
    _image_views: list[ImageView] = field(default_factory=list)
    _photographed: list[Any] = field(default_factory=list)

    def view(self, image_view: ImageView, shares: TargetShares, largest: float, *, several: bool) -> ImagePanel:
        """One target's map of a picture.

        Args:
            image_view: The picture.
            shares: One target, over all features that the image_view's members count.
            largest: Where the colour scale ends.
            several: Whether the page shows several pictures, which need their labels.
        """
        scores = [shares.scores[i] for i in image_view.members]
        total = sum(scores)
        share = shares.share(total)
        summed = f"{image_view.picture.label}: {signed(total, abs(total))} {shares.target.unit}"
        summed += "" if share is None else f", {percent(share)} of {shares.divided_name}"
        lowest = min(scores, default=0.0)
        strength = strengths(image_view.of(shares.scores), largest)
        number = None
        if self.scripted:
            number = len(self.maps)
            self.maps.append(
                {
                    "image_view": self._known(image_view),
                    "scores": [rounded(score) for score in scores],
                    "largest": largest,
                    "low": lowest,
                    "unit": shares.target.unit,
                    "total": shares.divided,
                    "of": shares.divided_name,
                }
            )
        height, width = image_view.size
        wide = shown_width(height, width, small=self.small)
        rows, columns = image_view.cells.shape
        low, high = scale_ends(largest, scores)
        return ImagePanel(
            label=image_view.picture.label if several and not summed.startswith(image_view.picture.label) else "",
            photo=self._photo(image_view),
            map=number,
            width=wide,
            ratio=f"{wide} / {max(BAND if image_view.wide else HIGH[0], round(wide * height / width))}",
            coloured=bool((image_view.picture.pixels != image_view.picture.pixels[..., :1]).any()),
            rows=rows,
            columns=columns,
            heat=data_uri(heat(image_view.cells, strength, signed=True)),
            outline=_outline(image_view, shares),
            low=low if lowest < 0 else "0",
            high=high,
            negative=lowest < 0,
            sum=summed,
            spoken=_spoken(image_view, shares, summed, largest),
        )

    @property
    def content(self) -> dict[str, Any]:
        """What the script reads."""
        return {
            "image_views": [_layout(image_view, members=self.members) for image_view in self._image_views],
            "maps": self.maps,
            "adds": list(ADDS),
            "takes": list(TAKES),
        }

    @property
    def style(self) -> dict[str, Any]:
        """What the style sheet reads."""
        return {"photos": self.photos, "adds": ADDS, "takes": TAKES}

    def _known(self, image_view: ImageView) -> int:
        for k, other in enumerate(self._image_views):
            if other is image_view or (
                other.members == image_view.members
                and other.labels == image_view.labels
                and other.picture.label == image_view.picture.label
                and torch.equal(other.cells, image_view.cells)
            ):
                return k
        self._image_views.append(image_view)
        return len(self._image_views) - 1

    def _photo(self, image_view: ImageView) -> int:
        pixels = image_view.picture.pixels
        for k, other in enumerate(self._photographed):
            if other is pixels or (other.shape == pixels.shape and bool((other == pixels).all())):
                return k
        self._photographed.append(pixels)
        self.photos.append(data_uri(photograph(image_view.picture)))
        return len(self.photos) - 1


def shown_width(height: int, width: int, *, small: bool = False) -> int:
    """How wide a picture is shown, in CSS pixels."""
    wide = SMALL if small else WIDE[1] if width >= 3 * height else max(WIDE[0], min(WIDE[1], width))
    highest = SMALL if small else HIGH[1]
    return max(64, min(wide, round(highest * width / height)))


def order_of(image_view: ImageView, shares: TargetShares) -> list[int]:
    """The image_view's members by the size of their shares, largest first; those without a share are left out."""
    scores = [shares.scores[i] for i in image_view.members]
    nonzero = [m for m, score in enumerate(scores) if score == score and score != 0]
    return sorted(nonzero, key=lambda m: -abs(scores[m]))


def rounded(score: float) -> float:
    """A score with the digits that a page needs; 0 for what is not finite, which JSON does not know."""
    return float(f"{score:.{DIGITS}g}") if abs(score) < float("inf") else 0.0


def _layout(image_view: ImageView, *, members: bool) -> dict[str, Any]:
    rows, columns = image_view.cells.shape
    word = image_view.regular
    named = {"word": word} if word else {"labels": [visible(label) for label in image_view.labels]}
    known = {"members": list(image_view.members)} if members else {}
    return {"rows": rows, "columns": columns, "runs": image_view.runs, **named, **known}


def _outline(image_view: ImageView, shares: TargetShares) -> str:
    edges = (edge for m in order_of(image_view, shares)[:IMAGE_TOP] for edge in image_view.outline(m))
    return "".join(f"M{c} {r}L{d} {s}" for r, c, s, d in edges)


def _spoken(image_view: ImageView, shares: TargetShares, summed: str, largest: float) -> str:
    best = [
        f"{visible(image_view.labels[m])} {signed(shares.scores[image_view.members[m]], largest)}"
        for m in order_of(image_view, shares)[:IMAGE_TOP]
    ]
    what = f"{len(image_view.members)} {image_view.noun}"
    return f"Heat map of {what}. {summed}. Largest shares: {', '.join(best) or 'none'}."


def largest_on(image_views: Sequence[ImageView], every_shares: Sequence[TargetShares]) -> float:
    """The size of a share on any of these image_views where the colour scale of all ends.

    It is the largest; of many regions, where a single pixel would make all others pale, the `ENOUGH` quantile.
    """
    sizes = (abs(shares.scores[i]) for shares in every_shares for image_view in image_views for i in image_view.members)
    known = [size for size in sizes if size < float("inf")]
    largest = max(known, default=0.0)
    if max((len(image_view.members) for image_view in image_views), default=0) <= MANY or largest == 0:
        return largest
    nonzero = sorted(size for size in known if size > 0)
    return nonzero[min(len(nonzero) - 1, int(ENOUGH * len(nonzero)))]


def scale_ends(largest: float, scores: Sequence[float]) -> tuple[str, str]:
    """Both ends of a colour scale in words, with ≤ and ≥ where shares lie beyond it."""
    over, under = (any(sign * score > largest * (1 + 1e-9) for score in scores) for sign in (1, -1))
    return ("≤ " if under else "") + signed(-largest, largest), ("≥ " if over else "") + signed(largest, largest)
