"""Plates: the pictures of an attribution, each with the features that it is divided into as a map of cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from jaxtyping import Float, Int
from torch import Tensor

from apportion.core import Feature, Picture
from apportion.report.kit._numbers import grid_of

#: Of a blank image_view, for features whose place in an image is not known: the side of a cell in pixels.
BLANK_CELL, BLANK = 16, 200


@dataclass(frozen=True, kw_only=True)
class ImageView:
    """One picture with its features.

    Args:
        picture: What the model saw.
        members: Which of the attribution's features are parts of it.
        cells: For each cell of the coarsest grid that shows all regions the place of its feature in `members`, -1 where
            it belongs to none. Cells are of equal size; regions of any shape consist of cells.
        labels: Of the members.
        kind: Of the members.
    """

    picture: Picture
    members: tuple[int, ...]
    cells: Int[Tensor, "row column"]
    labels: tuple[str, ...]
    kind: str = "patch"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture, in pixels."""
        height, width = self.picture.owner.shape
        return height, width

    @property
    def wide(self) -> bool:
        """Whether it is a band, as a spectrogram is, which may be stretched to be seen."""
        height, width = self.size
        return width >= 3 * height

    @property
    def noun(self) -> str:
        """What its features are called, such as `"patches"`."""
        return {"patch": "patches", "pixel": "pixels", "frame": "frames"}.get(self.kind, "regions")

    @cached_property
    def regular(self) -> str | None:
        """The word of labels such as `"patch 3,4"` that only tell row and column of a grid; None for other labels."""
        rows, columns = self.cells.shape
        word = self.labels[0].partition(" ")[0] if self.labels else ""
        if len(self.labels) != rows * columns or not torch.equal(
            self.cells.flatten(), torch.arange(rows * columns, dtype=self.cells.dtype)
        ):
            return None
        expected = (f"{word} {r},{c}" for r in range(rows) for c in range(columns))
        return word if all(label == other for label, other in zip(self.labels, expected, strict=True)) else None

    @property
    def runs(self) -> list[int]:
        """The cells in reading order as differences to the cell before, each with how often it stands in a row."""
        flat = self.cells.flatten()
        steps = torch.diff(flat, prepend=flat.new_zeros(1)).tolist()
        return [number for step, group in groupby(steps) for number in (step, len(list(group)))]

    def of(self, scores: Sequence[float]) -> Float[Tensor, " member"]:
        """The members' scores, from those of all features."""
        return torch.tensor([scores[i] for i in self.members], dtype=torch.float64)

    def outline(self, member: int) -> list[tuple[int, int, int, int]]:
        """The edges around a member's cells as lines from a corner (row, column) to another."""
        inside = torch.nn.functional.pad(self.cells == member, (1, 1, 1, 1))
        above = (inside[1:, 1:] != inside[:-1, 1:]).nonzero().tolist()
        beside = (inside[1:, 1:] != inside[1:, :-1]).nonzero().tolist()
        return [(r, c, r, c + 1) for r, c in above] + [(r, c, r + 1, c) for r, c in beside]


def image_views_of(features: Sequence[Feature], pictures: Sequence[Picture]) -> tuple[ImageView, ...]:
    """A image_view for each picture that holds features, and a blank one for features without a known place in one."""
    found = []
    for k, picture in enumerate(pictures):
        members = [i for i, feature in enumerate(features) if feature.image == k]
        if members:
            found.append(_image_view(picture, members, features))
    lost = [
        i
        for i, feature in enumerate(features)
        if (feature.image is not None and feature.image >= len(pictures)) or _has_no_place(feature)
    ]
    if lost:
        found.append(_blank(lost, features))
    return tuple(found)


def text_members(features: Sequence[Feature]) -> list[int]:
    """The features that reports show as a text: neither parts of images nor the tokens that hold their place."""
    return [
        i
        for i, feature in enumerate(features)
        if feature.image is None and feature.kind != "placeholder" and not _has_no_place(feature)
    ]


def _has_no_place(feature: Feature) -> bool:
    # What follows a recording has no frame in its picture, and a label that says so.
    return feature.image is None and feature.kind in ("patch", "pixel", "region")


def _image_view(picture: Picture, members: Sequence[int], features: Sequence[Feature]) -> ImageView:
    owner = picture.owner.long()
    numbers = [p for i in members for p in features[i].positions]
    ranks = torch.full((max(int(owner.max()), *numbers, 0) + 2,), -1)
    ranks[torch.tensor(numbers, dtype=torch.long)] = torch.tensor(
        [rank for rank, i in enumerate(members) for _ in features[i].positions], dtype=torch.long
    )
    cells = coarsest(ranks[owner])  # the last rank, -1, is that of no feature
    return _made(picture, members, cells, features)


def _blank(members: Sequence[int], features: Sequence[Feature]) -> ImageView:
    rows, columns = grid_of(len(members))
    cells = torch.arange(rows * columns)
    cells = torch.where(cells < len(members), cells, -1).reshape(rows, columns)
    owner = cells.repeat_interleave(BLANK_CELL, 0).repeat_interleave(BLANK_CELL, 1).to(torch.int32)
    picture = Picture(
        pixels=torch.full((*owner.shape, 3), BLANK, dtype=torch.uint8),
        owner=owner,
        label="in reading order; their places in the image are not known",
    )
    return _made(picture, members, cells, features)


def _made(picture: Picture, members: Sequence[int], cells: Tensor, features: Sequence[Feature]) -> ImageView:
    return ImageView(
        picture=picture,
        members=tuple(members),
        cells=cells,
        labels=tuple(features[i].label for i in members),
        kind=features[members[0]].kind,
    )


def coarsest(owner: Int[Tensor, "height width"]) -> Int[Tensor, "row column"]:
    """The smallest map of equal cells that shows the same regions."""
    for _ in range(2):
        length = len(owner)
        for side in (side for side in range(length, 0, -1) if length % side == 0):
            blocks = owner.reshape(length // side, side, -1)
            if bool((blocks == blocks[:, :1]).all()):
                owner = blocks[:, 0].T
                break
    return owner
