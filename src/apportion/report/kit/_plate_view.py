"""Plates on a page: the photograph, the heat map over it, and the numbers that the page's script draws from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from apportion.report.kit._labels import visible
from apportion.report.kit._numbers import percent, signed
from apportion.report.kit._paint import ADDS, TAKES, data_uri, heat, photograph, strengths
from apportion.report.kit._plates import Plate
from apportion.report.kit._reading import Reading

#: Regions that are outlined where no script lets the reader choose, and named to those who cannot see.
PLATE_TOP = 5
#: In CSS pixels: pictures are shown at least and at most so wide, and so high. Small ones stand beside each other.
WIDE, HIGH, SMALL = (384, 560), (96, 560), 208
#: With more regions than this, a colour scale ends where this part of the shares that are not 0 is smaller.
MANY, ENOUGH = 1000, 0.99
#: How high bands such as spectrograms are shown at least.
BAND = 144
#: Digits of each share that the script knows.
DIGITS = 5


@dataclass(frozen=True, kw_only=True)
class PlateView:
    """One target's map of one picture, as the template shows it.

    Args:
        label: Of the picture, where there are several.
        photo: Which of the page's photographs it lies on.
        map: Which of the script's maps it is; None without a script.
        width: In CSS pixels.
        ratio: Width to height, as CSS has it.
        coloured: Whether the picture has colours.
        rows: Of the plate's cells.
        columns: Of the plate's cells.
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
    """What a page draws: its photographs, each once; and for its script the plates and maps.

    Args:
        scripted: Whether the page has a script that draws.
        small: Whether many pictures stand beside each other.
        members: Whether the script must know which features a plate has.
    """

    scripted: bool = True
    small: bool = False
    members: bool = False
    photos: list[str] = field(default_factory=list)
    maps: list[dict[str, Any]] = field(default_factory=list)
    _plates: list[Plate] = field(default_factory=list)
    _photographed: list[Any] = field(default_factory=list)

    def view(self, plate: Plate, reading: Reading, largest: float, *, several: bool) -> PlateView:
        """One target's map of a picture.

        Args:
            plate: The picture.
            reading: One target, over all features that the plate's members count.
            largest: Where the colour scale ends.
            several: Whether the page shows several pictures, which need their labels.
        """
        scores = [reading.scores[i] for i in plate.members]
        total = sum(scores)
        share = reading.share(total)
        summed = f"{plate.picture.label}: {signed(total, abs(total))} {reading.target.unit}"
        summed += "" if share is None else f", {percent(share)} of {reading.divided_name}"
        lowest = min(scores, default=0.0)
        strength = strengths(plate.of(reading.scores), largest)
        number = None
        if self.scripted:
            number = len(self.maps)
            self.maps.append(
                {
                    "plate": self._known(plate),
                    "scores": [rounded(score) for score in scores],
                    "largest": largest,
                    "low": lowest,
                    "unit": reading.target.unit,
                    "total": reading.divided,
                    "of": reading.divided_name,
                }
            )
        height, width = plate.size
        wide = shown_width(height, width, small=self.small)
        rows, columns = plate.cells.shape
        low, high = scale_ends(largest, scores)
        return PlateView(
            label=plate.picture.label if several and not summed.startswith(plate.picture.label) else "",
            photo=self._photo(plate),
            map=number,
            width=wide,
            ratio=f"{wide} / {max(BAND if plate.wide else HIGH[0], round(wide * height / width))}",
            coloured=bool((plate.picture.pixels != plate.picture.pixels[..., :1]).any()),
            rows=rows,
            columns=columns,
            heat=data_uri(heat(plate.cells, strength, signed=True)),
            outline=_outline(plate, reading),
            low=low if lowest < 0 else "0",
            high=high,
            negative=lowest < 0,
            sum=summed,
            spoken=_spoken(plate, reading, summed, largest),
        )

    @property
    def content(self) -> dict[str, Any]:
        """What the script reads."""
        return {
            "plates": [_layout(plate, members=self.members) for plate in self._plates],
            "maps": self.maps,
            "adds": list(ADDS),
            "takes": list(TAKES),
        }

    @property
    def style(self) -> dict[str, Any]:
        """What the style sheet reads."""
        return {"photos": self.photos, "adds": ADDS, "takes": TAKES}

    def _known(self, plate: Plate) -> int:
        for k, other in enumerate(self._plates):
            if other is plate or (
                other.members == plate.members
                and other.labels == plate.labels
                and other.picture.label == plate.picture.label
                and torch.equal(other.cells, plate.cells)
            ):
                return k
        self._plates.append(plate)
        return len(self._plates) - 1

    def _photo(self, plate: Plate) -> int:
        pixels = plate.picture.pixels
        for k, other in enumerate(self._photographed):
            if other is pixels or (other.shape == pixels.shape and bool((other == pixels).all())):
                return k
        self._photographed.append(pixels)
        self.photos.append(data_uri(photograph(plate.picture)))
        return len(self.photos) - 1


def shown_width(height: int, width: int, *, small: bool = False) -> int:
    """How wide a picture is shown, in CSS pixels."""
    wide = SMALL if small else WIDE[1] if width >= 3 * height else max(WIDE[0], min(WIDE[1], width))
    highest = SMALL if small else HIGH[1]
    return max(64, min(wide, round(highest * width / height)))


def order_of(plate: Plate, reading: Reading) -> list[int]:
    """The plate's members by the size of their shares, largest first; those without a share are left out."""
    scores = [reading.scores[i] for i in plate.members]
    nonzero = [m for m, score in enumerate(scores) if score == score and score != 0]
    return sorted(nonzero, key=lambda m: -abs(scores[m]))


def rounded(score: float) -> float:
    """A score with the digits that a page needs; 0 for what is not finite, which JSON does not know."""
    return float(f"{score:.{DIGITS}g}") if abs(score) < float("inf") else 0.0


def _layout(plate: Plate, *, members: bool) -> dict[str, Any]:
    rows, columns = plate.cells.shape
    word = plate.regular
    named = {"word": word} if word else {"labels": [visible(label) for label in plate.labels]}
    known = {"members": list(plate.members)} if members else {}
    return {"rows": rows, "columns": columns, "runs": plate.runs, **named, **known}


def _outline(plate: Plate, reading: Reading) -> str:
    edges = (edge for m in order_of(plate, reading)[:PLATE_TOP] for edge in plate.outline(m))
    return "".join(f"M{c} {r}L{d} {s}" for r, c, s, d in edges)


def _spoken(plate: Plate, reading: Reading, summed: str, largest: float) -> str:
    best = [
        f"{visible(plate.labels[m])} {signed(reading.scores[plate.members[m]], largest)}"
        for m in order_of(plate, reading)[:PLATE_TOP]
    ]
    return f"Heat map of {len(plate.members)} {plate.noun}. {summed}. Largest shares: {', '.join(best) or 'none'}."


def largest_on(plates: Sequence[Plate], readings: Sequence[Reading]) -> float:
    """The size of a share on any of these plates where the colour scale of all ends.

    It is the largest; of many regions, where a single pixel would make all others pale, the `ENOUGH` quantile.
    """
    sizes = (abs(reading.scores[i]) for reading in readings for plate in plates for i in plate.members)
    known = [size for size in sizes if size < float("inf")]
    largest = max(known, default=0.0)
    if max((len(plate.members) for plate in plates), default=0) <= MANY or largest == 0:
        return largest
    nonzero = sorted(size for size in known if size > 0)
    return nonzero[min(len(nonzero) - 1, int(ENOUGH * len(nonzero)))]


def scale_ends(largest: float, scores: Sequence[float]) -> tuple[str, str]:
    """Both ends of a colour scale in words, with ≤ and ≥ where shares lie beyond it."""
    over, under = (any(sign * score > largest * (1 + 1e-9) for score in scores) for sign in (1, -1))
    return ("≤ " if under else "") + signed(-largest, largest), ("≥ " if over else "") + signed(largest, largest)
