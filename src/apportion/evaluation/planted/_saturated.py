"""Saturation: a name among fillers is said by a neuron whose slope is 0."""

from __future__ import annotations

import numpy as np

from apportion.evaluation.planted._circuit import Circuit, Layer, Neurons, looking
from apportion.evaluation.planted._hum import hum
from apportion.evaluation.planted._puzzle import Place, Puzzle
from apportion.evaluation.planted._space import feature, kind, words
from apportion.evaluation.planted._task import Strengths, Task, among_fillers, drawn, without
from apportion.evaluation.planted._words import NAMES

#: What the head leaves of the name in the residual stream: little, so that it reaches the answer by the neuron alone.
TRACE = 0.01


def saturating(strengths: Strengths) -> Circuit:
    """A head brings the name, a neuron of its own says it; the fillers hum."""
    naming = looking(
        kind(NAMES[0]), sharpness=strengths.sharpness, value=words("word", NAMES), out=TRACE * words("found", NAMES).T
    )
    neurons = Neurons(read=strengths.steepness / TRACE * words("found", NAMES), write=words("said", NAMES).T)
    layer = Layer(heads=[naming, hum(feature("named").T, sharpness=strengths.sharpness)], neurons=neurons)
    return Circuit(layers=[layer], activation="tanh")


def one_name(generator: np.random.Generator) -> Puzzle:
    """Fillers with a name among them."""
    (name,) = drawn(generator, NAMES, 1)
    return Puzzle(
        places=among_fillers(generator, [Place(word=name, others=without(NAMES, name), cause=True)]), answer=name
    )


SATURATED = Task(
    story=(
        "A name among fillers: the model says it. A head brings the name to a neuron of its own, tanh(25 · name), "
        "which says it: value 1, slope 0. The fillers hum: together they say all names with strength 1, whichever "
        "fillers they are. The cause is the name. Its gradient vanishes and the fillers' does not; a rule that divides "
        "values, f(z)/z, gives the name its due."
    ),
    circuit=saturating,
    puzzle=one_name,
)
