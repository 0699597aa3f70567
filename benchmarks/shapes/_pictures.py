"""Pictures of coloured shapes whose truth is known: what each word names, and on which pixels it lies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from benchmarks.shapes._scenes import COLOURS as COLOURS
from benchmarks.shapes._scenes import RELATIONS as RELATIONS
from benchmarks.shapes._scenes import SHAPES as SHAPES
from benchmarks.shapes._scenes import WORDS as WORDS
from benchmarks.shapes._scenes import Scene, random_scene

PAINT = {
    "red": (210, 45, 45),
    "green": (45, 165, 65),
    "blue": (50, 80, 215),
    "yellow": (230, 200, 40),
    "purple": (150, 60, 175),
}

# Parts of the side, so that a picture looks alike at every size.
RADIUS = (0.14, 0.2)
GAP = 0.05
MARGIN = 0.02


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One coloured shape in a picture.

    `mask` (side, side) is true where at least half of the pixel belongs to the thing. `box` is the smallest that holds
    the mask, in pixels: left, top, right, bottom, the last two exclusive.
    """

    shape: str
    colour: str
    mask: NDArray[np.bool_]
    box: tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image (side, side, 3) of bytes, a caption that is true of it, and the things in the caption's order.

    `relation` says where the first thing lies as seen from the second; it is None where there is one thing only.
    """

    image: NDArray[np.uint8]
    caption: str
    things: tuple[Thing, ...]
    relation: str | None

    @property
    def scene(self) -> Scene:
        """What the picture shows, in words."""
        return Scene(tuple((thing.colour, thing.shape) for thing in self.things), self.relation)

    def mask_of(self, word: str) -> NDArray[np.bool_]:
        """(side, side), true on the things whose colour or shape is `word`; false everywhere for other words."""
        masks = [thing.mask for thing in self.things if word in (thing.colour, thing.shape)]
        return np.any(masks, axis=0) if masks else np.zeros(self.image.shape[:2], bool)


def pictures(count: int, seed: int, side: int = 64, things: Sequence[int] = (1, 2)) -> Iterator[Picture]:
    """Yield `count` random pictures of `side` × `side` pixels; the same ones for the same arguments.

    `things` lists how many things a picture may hold, 1 or 2, each entry being equally likely. Another `side` gives the
    same scenes and places in another resolution.
    """
    if not things or not set(things) <= {1, 2}:
        raise ValueError(f"things is {tuple(things)}; a picture holds 1 or 2")
    random = default_rng(seed)
    for _ in range(count):
        yield draw(random_scene(random, int(random.choice(things))), random, side)


def draw(
    scene: Scene, random: Generator, side: int = 64, *, radius: tuple[float, float] = RADIUS, spread: float = 1.0
) -> Picture:
    """A picture of `scene`; places, sizes (from `radius`, as parts of the side), brightness and background are random.

    A smaller `spread` draws places together; at 0, one thing lies in the middle, and two in the middles of two halves.

    Two things never overlap and lie clearly in their direction: their boxes are apart along it, and their centres
    differ less across it. The background is a dark or a light grey with slight noise.
    """
    radii = random.uniform(*radius, size=len(scene.things))
    grey = random_grey(random)
    centres = spread * _centres(random, scene.relation, radii) + (1 - spread) * _middles(scene.relation)
    placed = zip(scene.things, centres, radii.tolist(), strict=True)
    image, things = paint(list(placed), grey, random, side)
    return Picture(image=image, caption=scene.caption, things=things, relation=scene.relation)


def random_grey(random: Generator) -> float:
    """A dark or a light grey of 0…255."""
    return random.uniform(30, 90) if random.random() < 0.5 else random.uniform(160, 225)


def paint(
    placed: Sequence[tuple[tuple[str, str], NDArray[np.float64], float]], grey: float, random: Generator, side: int
) -> tuple[NDArray[np.uint8], tuple[Thing, ...]]:
    """An image (side, side, 3) of things on grey, each given by its kind, centre and radius.

    Centre (x, y) and radius are parts of the side. Brightness and noise are random.
    """
    image = np.full((side, side, 3), grey, np.float32)
    things = []
    for (colour, shape), centre, radius in placed:
        coverage = _coverage(shape, centre * side, radius * side, side)
        own = np.array(PAINT[colour], np.float32) * random.uniform(0.85, 1.1)
        image += coverage[..., None] * (own - image)
        mask = coverage >= 0.5
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        things.append(Thing(shape=shape, colour=colour, mask=mask, box=box))
    # Noise of its own seed, so that what follows does not depend on the side.
    image += 4 * default_rng(int(random.integers(2**32))).standard_normal((side, side, 1), np.float32)
    return image.round().clip(0, 255).astype(np.uint8), tuple(things)


def _centres(random: Generator, relation: str | None, radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """(thing, 2) x and y as parts of the side."""
    low, high = MARGIN + radii, 1 - MARGIN - radii
    if relation is None:
        return random.uniform(low[0], high[0], size=(1, 2))
    first, second = (0, 1) if relation in ("above", "left of") else (1, 0)  # in reading order
    apart = radii.sum() + GAP
    along, across = np.empty(2), np.empty(2)
    along[first] = random.uniform(low[first], high[second] - apart)
    along[second] = random.uniform(along[first] + apart, high[second])
    reach = 0.7 * (along[second] - along[first])
    across[0] = random.uniform(low[0], high[0])
    across[1] = random.uniform(max(low[1], across[0] - reach), min(high[1], across[0] + reach))
    return np.stack([across, along] if relation in ("above", "below") else [along, across], axis=1)


def _middles(relation: str | None) -> NDArray[np.float64]:
    """(thing, 2) x and y of the middle of the picture, or of its halves, as parts of the side."""
    if relation is None:
        return np.array([[0.5, 0.5]])
    along = (0.25, 0.75) if relation in ("above", "left of") else (0.75, 0.25)
    return np.array([(0.5, k) if relation in ("above", "below") else (k, 0.5) for k in along])


def _coverage(shape: str, centre: NDArray[np.float64], radius: float, side: int) -> NDArray[np.float32]:
    """(side, side) how much of each pixel the shape covers, 0 to 1, from the distance to its edge in pixels."""
    x, y = (np.arange(0.5, side, dtype=np.float32) - np.float32(c) for c in centre)
    y = y[:, None]
    if shape == "circle":
        outside = np.hypot(x, y) - radius
    elif shape == "square":
        outside = np.maximum(abs(x), abs(y)) - 0.9 * radius
    elif shape == "triangle":  # its base lies below; the two legs rise by 2 for each 1 across
        outside = np.maximum(y - 0.9 * radius, (2 * abs(x) - y - 0.9 * radius) / 5**0.5)
    else:
        long, short = radius, 0.36 * radius
        upright, lying = np.maximum(abs(x) - short, abs(y) - long), np.maximum(abs(x) - long, abs(y) - short)
        outside = np.minimum(upright, lying)
    return (0.5 - outside).clip(0, 1)
