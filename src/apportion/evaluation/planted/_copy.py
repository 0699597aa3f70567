"""Copying: the model says the word that stands three places back."""

from __future__ import annotations

import numpy as np

from apportion.evaluation.planted._circuit import Circuit, Layer, looking
from apportion.evaluation.planted._puzzle import Place, Puzzle
from apportion.evaluation.planted._space import feature
from apportion.evaluation.planted._task import Strengths, Task, drawn, without
from apportion.evaluation.planted._words import COLOURS, FILLERS, NAMES

BACK = 3
COPIED = (*FILLERS, *NAMES, *COLOURS)


def copying(strengths: Strengths) -> Circuit:
    """One head, which looks three places back and says what it finds."""
    place = feature("place")
    head = looking(
        place[:, :-BACK],
        query=place[:, BACK:],
        sharpness=strengths.sharpness,
        value=feature("word"),
        out=feature("said").T,
    )
    return Circuit(layers=[Layer(heads=[head])])


def copy_puzzle(generator: np.random.Generator) -> Puzzle:
    """A row of six to sixteen words."""
    row = drawn(generator, COPIED, int(generator.integers(6, 17)))
    cause = len(row) - 1 - BACK
    places = tuple(Place(word=word, others=without(COPIED, word), cause=i == cause) for i, word in enumerate(row))
    return Puzzle(places=places, answer=row[cause])


COPY = Task(
    story=(
        "The model says the word that stands three places back. One head looks there by position and copies the word. "
        "The cause is that word; its value goes straight to the answer, so most methods should find it."
    ),
    circuit=copying,
    puzzle=copy_puzzle,
)
