"""Switch: an alarm keeps attention from the text's start, and says nothing itself."""

from __future__ import annotations

import numpy as np

from apportion.evaluation.planted._circuit import Circuit, Layer, looking
from apportion.evaluation.planted._hum import hum
from apportion.evaluation.planted._puzzle import Place, Puzzle
from apportion.evaluation.planted._space import kind, words
from apportion.evaluation.planted._task import Strengths, Task, among_fillers, drawn
from apportion.evaluation.planted._words import ALARMS, ANSWERS, MASK, START

CALM, ALERT = ANSWERS[2:]


def switching(strengths: Strengths) -> Circuit:
    """The start says calm, unless an alarm takes the attention; the fillers hum alert."""
    start = words("word", (START,))
    guarding = looking(kind(ALARMS[0]), sharpness=strengths.sharpness, value=start, out=2 * words("said", (CALM,)).T)
    return Circuit(layers=[Layer(heads=[guarding, hum(words("said", (ALERT,)).T, sharpness=strengths.sharpness)])])


def one_alarm(generator: np.random.Generator) -> Puzzle:
    """Fillers with an alarm among them; another alarm would change nothing, none does."""
    alarm = Place(word=drawn(generator, ALARMS, 1)[0], others=(MASK,), cause=True)
    return Puzzle(places=among_fillers(generator, [alarm]), answer=ALERT, contrast=CALM)


SWITCH = Task(
    story=(
        "An alarm among fillers: the model says alert, and without the alarm calm. A head looks at the text's start, "
        "whose value says calm; an alarm draws its attention away, and the alarm's own value is 0. The fillers hum: "
        "together they say alert with strength 1, whichever fillers they are. The cause is the alarm, which acts "
        "through its key alone."
    ),
    circuit=switching,
    puzzle=one_alarm,
)
