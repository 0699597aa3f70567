"""Comparison: whether the first number of a row is more than the last."""

from __future__ import annotations

import numpy as np
import torch

from apportion.evaluation.planted._circuit import Circuit, Layer, Neurons, looking
from apportion.evaluation.planted._puzzle import Place, Puzzle
from apportion.evaluation.planted._space import feature, words
from apportion.evaluation.planted._task import Strengths, Task, drawn, without
from apportion.evaluation.planted._words import ANSWERS, NUMBERS, size_of

MORE, LESS = ANSWERS[:2]


def comparing(strengths: Strengths) -> Circuit:
    """One head takes the first number to the last; two neurons subtract one from the other."""
    first = looking(
        feature("place")[:, [1]],
        sharpness=strengths.sharpness,
        value=feature("size")[:, [0]],
        out=feature("found")[:, [0]].T,
        else_start=False,
    )
    difference = feature("found")[:, [0]] - feature("size")[:, [0]]
    neurons = Neurons(read=torch.cat([difference, -difference], 1), write=words("said", (MORE, LESS)).T)
    return Circuit(layers=[Layer(heads=[first], neurons=neurons)])


def compare_puzzle(generator: np.random.Generator) -> Puzzle:
    """A row of five to twelve numbers whose first and last differ."""
    row = drawn(generator, NUMBERS, int(generator.integers(5, 13)))
    row[0], row[-1] = drawn(generator, NUMBERS, 2, again=False)
    ends = (0, len(row) - 1)
    places = tuple(Place(word=word, others=without(NUMBERS, word), cause=i in ends) for i, word in enumerate(row))
    answer, contrast = (MORE, LESS) if size_of(row[0]) > size_of(row[-1]) else (LESS, MORE)
    return Puzzle(places=places, answer=answer, contrast=contrast)


COMPARE = Task(
    story=(
        "A row of numbers: the model says whether the first is more or less than the last. One head takes the size of "
        "the first number to the last place, and two neurons subtract. The causes are both numbers; what is explained "
        "is the logit of the right answer less that of the other."
    ),
    circuit=comparing,
    puzzle=compare_puzzle,
)
