"""Twice: the same name stands at two places, and either is enough."""

from __future__ import annotations

import numpy as np

from apportion.evaluation.planted._circuit import Circuit, Layer, looking
from apportion.evaluation.planted._hum import hum
from apportion.evaluation.planted._puzzle import Place, Puzzle
from apportion.evaluation.planted._space import feature, kind, words
from apportion.evaluation.planted._task import Strengths, Task, among_fillers, drawn
from apportion.evaluation.planted._words import MASK, NAMES


def naming(strengths: Strengths) -> Circuit:
    """A head says the mean of all names; the fillers hum."""
    head = looking(
        kind(NAMES[0]), sharpness=strengths.sharpness, value=words("word", NAMES), out=words("said", NAMES).T
    )
    return Circuit(layers=[Layer(heads=[head, hum(feature("named").T, sharpness=strengths.sharpness)])])


def same_name_twice(generator: np.random.Generator) -> Puzzle:
    """Fillers with a name among them, at two places; only without both is it not said."""
    (name,) = drawn(generator, NAMES, 1)
    causes = [Place(word=name, others=(MASK,), cause=True)] * 2
    return Puzzle(places=among_fillers(generator, causes), answer=name)


TWICE = Task(
    story=(
        "The same name twice among fillers: the model says it. A head averages over the names. The fillers hum: "
        "together they say all names with strength 1, whichever fillers they are. The causes are both places of the "
        "name: without one the other gets all the attention and nothing changes, so leaving out one at a time finds "
        "nothing."
    ),
    circuit=naming,
    puzzle=same_name_twice,
    jointly=True,
)
