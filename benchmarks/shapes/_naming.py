"""What lies on each patch, and where each word's thing lies: what a vision tower learns before it is given captions.

From captions alone the tower learns colours at once, shapes late and relations last. Here each patch is a question of
its own, and the relation of two things is the difference of two places.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from transformers import CLIPVisionModel

from benchmarks.shapes._optimisers import Descent
from benchmarks.shapes._pictures import GAP, MARGIN, RADIUS, Thing, paint, random_grey
from benchmarks.shapes._scenes import COLOURS, SHAPES, random_scene

PLACED = (*COLOURS, *SHAPES)
NAMES = 1 + len(COLOURS) * len(SHAPES)
UNCLEAR = -100
MOST, TRIES = 6, 40


class Teacher(nn.Module):
    """Two linear maps that read a tower's last layer: from a patch what lies on it, and from CLS where.

    They are dropped when the tower has learnt.
    """

    def __init__(self, tower: CLIPVisionModel):
        super().__init__()
        self.side, self.patch = tower.config.image_size, tower.config.patch_size
        self.name = nn.Linear(tower.config.hidden_size, NAMES)
        self.place = nn.Linear(tower.config.hidden_size, 2 * len(PLACED))

    def loss(self, hidden: Tensor, shown: Sequence[tuple[Thing, ...]]) -> Tensor:
        """Cross-entropy of names plus mean square error of places, both read from (batch, 1 + patch, d_model)."""
        names, places = names_of(shown, self.side, self.patch), places_of(shown, self.side)
        naming = cross_entropy(self.name(hidden[:, 1:]).flatten(0, 1), names.flatten(), ignore_index=UNCLEAR)
        there = ~places.isnan()
        return naming + mse_loss(self.place(hidden[:, 0]).view_as(places)[there], places[there])


def learn_names(tower: CLIPVisionModel, teacher: Teacher, steps: int, *, seed: int, batch: int = 24) -> None:
    """Train both on images that are crowded or hold two things, in turn."""
    random, descent = default_rng(seed), Descent([tower, teacher], steps, rate=2e-3)
    for step in track(range(steps), "names and places"):
        images, things = zip(*(crowd(random, teacher.side, (MOST, 2)[step % 2]) for _ in range(batch)), strict=True)
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 127.5 - 1
        loss = teacher.loss(tower(pixel_values=pixels).last_hidden_state, things)
        descent.step(loss)
        if step % 50 > 47:  # one of each kind
            print(f"step {step + 1}: loss {loss.item():.3f}")


def crowd(random: Generator, side: int, most: int = MOST) -> tuple[NDArray[np.uint8], tuple[Thing, ...]]:
    """An image (side, side, 3) of up to `most` things of any colour and shape that do not overlap, and the things."""
    placed: list[tuple[tuple[str, str], NDArray[np.float64], float]] = []
    grey = random_grey(random)
    for _ in range(TRIES):
        radius = random.uniform(*RADIUS)
        centre = random.uniform(MARGIN + radius, 1 - MARGIN - radius, size=2)
        if all(abs(centre - other).max() > radius + theirs + GAP / 2 for _, other, theirs in placed):
            placed.append((random_scene(random, 1).things[0], centre, radius))
    return paint(placed[:most], grey, random, side)


def names_of(shown: Sequence[tuple[Thing, ...]], side: int, patch: int) -> Tensor:
    """(batch, patch) 0 for the background, else the number of the colour and shape of what lies on the patch.

    `shown` holds the things of each image. A patch is `UNCLEAR` where two things touch it or one covers less than a
    quarter of it.
    """
    grid = side // patch
    names = np.zeros((len(shown), grid * grid), np.int64)
    for row, things in zip(names, shown, strict=True):
        for thing in things:
            part = thing.mask.reshape(grid, patch, grid, patch).mean((1, 3)).flatten()
            number = 1 + COLOURS.index(thing.colour) * len(SHAPES) + SHAPES.index(thing.shape)
            touched = part > 0
            row[touched] = np.where((part >= 0.25) & (row == 0), number, UNCLEAR)[touched]
    return torch.from_numpy(names)


def places_of(shown: Sequence[tuple[Thing, ...]], side: int) -> Tensor:
    """(batch, word, 2) the centre of the only thing that each word of `PLACED` names, x and y from −2 to 2.

    It is not a number where the word names no thing or several.
    """
    places = np.full((len(shown), len(PLACED), 2), np.nan, np.float32)
    for row, things in zip(places, shown, strict=True):
        for k, word in enumerate(PLACED):
            boxes = [thing.box for thing in things if word in (thing.colour, thing.shape)]
            if len(boxes) == 1:
                left, top, right, bottom = boxes[0]
                row[k] = 2 * (left + right) / side - 2, 2 * (top + bottom) / side - 2
    return torch.from_numpy(places)
