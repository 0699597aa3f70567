"""Lookup: pairs of a name and a colour, then a name; the model says its colour."""

from __future__ import annotations

import numpy as np

from apportion.evaluation.planted._circuit import Circuit, Layer, looking
from apportion.evaluation.planted._puzzle import Place, Puzzle
from apportion.evaluation.planted._space import SQUARED_LENGTH, feature, words
from apportion.evaluation.planted._task import Strengths, Task, drawn, without
from apportion.evaluation.planted._words import COLOURS, NAMES


def looking_up(strengths: Strengths) -> Circuit:
    """Each word notes the word before it; then the last looks for the word that noted it."""
    place = feature("place")
    noting = looking(
        place[:, :-1],
        query=place[:, 1:],
        sharpness=strengths.sharpness,
        value=feature("word"),
        out=feature("found").T,
        else_start=False,
    )
    answering = looking(
        words("found", NAMES),
        query=words("word", NAMES),
        sharpness=strengths.sharpness,
        value=words("word", COLOURS),
        out=words("said", COLOURS).T,
    )
    return Circuit(layers=[Layer(heads=[noting]), Layer(heads=[answering], squared_length=SQUARED_LENGTH + 1)])


def lookup_puzzle(generator: np.random.Generator) -> Puzzle:
    """Three to six pairs in which no name and no colour comes twice."""
    count = int(generator.integers(3, 7))
    names, colours = (drawn(generator, words, count, again=False) for words in (NAMES, COLOURS))
    asked = int(generator.integers(0, count))
    places: list[Place] = []
    for k, (name, colour) in enumerate(zip(names, colours, strict=True)):
        places.append(Place(word=name, others=without(NAMES, *names), cause=k == asked))
        places.append(Place(word=colour, others=without(COLOURS, colour), cause=k == asked))
    places.append(Place(word=names[asked], others=without(NAMES, names[asked]), cause=True))
    return Puzzle(places=tuple(places), answer=colours[asked])


LOOKUP = Task(
    story=(
        "Pairs of a name and a colour, then one of the names: the model says its colour. In the first layer each word "
        "notes the word before it; in the second the last word looks for the word that noted it and says that. The "
        "causes are the colour, whose value is copied, and both places of the name, which only choose where to look."
    ),
    circuit=looking_up,
    puzzle=lookup_puzzle,
)
