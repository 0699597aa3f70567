"""The space of the planted models: named features, each a direction of the residual stream."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.evaluation.planted._words import KINDS, WORDS, ids, kind_of, size_of

#: The most tokens that a planted model reads.
PLACES = 24
WIDTHS = {
    "word": len(WORDS),  # which word stands here
    "kind": len(KINDS),  # of which kind it is
    "size": 2,  # how large a number it is, and what keeps the length the same for every word
    "place": PLACES,  # where in the text
    "found": len(WORDS),  # the word that attention brought here
    "said": len(WORDS),  # the word that the model says
    "named": 1,  # how much the model says all names
    "idle": 1,  # nothing reads it
}
FEATURES = sum(WIDTHS.values())
#: Of an embedding: a word, its kind, its size and its place are of length 1 each.
SQUARED_LENGTH = 4.0


def feature(name: str) -> Float[Tensor, "features width"]:
    """The columns that read a named feature, or, transposed, the rows that write it."""
    names = list(WIDTHS)
    before = sum(WIDTHS[other] for other in names[: names.index(name)])
    return torch.eye(FEATURES, dtype=torch.float64)[:, before : before + WIDTHS[name]]


def words(name: str, chosen: tuple[str, ...]) -> Float[Tensor, "features words"]:
    """The columns of `"word"`, `"found"` or `"said"` that stand for some words."""
    return feature(name)[:, ids(chosen)]


def kind(example: str) -> Float[Tensor, "features one"]:
    """The column that is 1 where a word of the same kind stands."""
    return feature("kind")[:, [kind_of(example)]]


def word_features() -> Float[Tensor, "words features"]:
    """What each word's embedding says; all are of the same length, so that no norm tells them apart."""
    sizes = torch.tensor([size_of(word) for word in WORDS], dtype=torch.float64)
    kinds = torch.tensor([kind_of(word) for word in WORDS])
    size = torch.stack([sizes, (1 - sizes.square()).sqrt()], 1)
    return feature("word").T + feature("kind").T[kinds] + size @ feature("size").T


def place_features() -> Float[Tensor, "places features"]:
    """What each position embedding says."""
    return feature("place").T


def directions(width: int, seed: int) -> Float[Tensor, "width features"]:
    """A direction of the residual stream for each feature: random, orthonormal, and unseen by a norm's mean.

    Args:
        width: Of the residual stream; more than there are features.
        seed: Of the directions.
    """
    ones = torch.ones(width, 1, dtype=torch.float64)
    orthonormal, _ = torch.linalg.qr(torch.cat([ones, random_rotation(width, seed)[:, :FEATURES]], 1))
    return orthonormal[:, 1:]


def random_rotation(width: int, seed: int) -> Float[Tensor, "width width"]:
    """An orthonormal basis in random directions."""
    generator = torch.Generator().manual_seed(seed)
    orthonormal, _ = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))
    return orthonormal
