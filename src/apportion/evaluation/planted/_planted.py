"""Planted truth: a transformer with hand-set weights, whose right answer and its cause are known by construction."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from torch import nn

from apportion.core import ApportionError
from apportion.engine import Engine
from apportion.evaluation._item import Item
from apportion.evaluation.planted._circuit import model_of
from apportion.evaluation.planted._compare import COMPARE
from apportion.evaluation.planted._copy import COPY
from apportion.evaluation.planted._lookup import LOOKUP
from apportion.evaluation.planted._puzzle import Puzzle
from apportion.evaluation.planted._saturated import SATURATED
from apportion.evaluation.planted._switch import SWITCH
from apportion.evaluation.planted._task import SHARPNESS, STEEPNESS, Strengths, Task
from apportion.evaluation.planted._twice import TWICE
from apportion.evaluation.planted._words import word_tokenizer

PlantedName = Literal["copy", "lookup", "compare", "saturated", "switch", "twice"]
TASKS: dict[str, Task] = {
    "copy": COPY,
    "lookup": LOOKUP,
    "compare": COMPARE,
    "saturated": SATURATED,
    "switch": SWITCH,
    "twice": TWICE,
}


@dataclass(frozen=True)
class Planted:
    """A model whose right answer is known, and texts with the answer's cause.

    Args:
        name: As `planted` takes it.
        model: A small GPT-2 in float64.
        processor: Its tokenizer of whole words.
        task: What it computes.
        seed: Of the texts.
    """

    name: str
    model: nn.Module
    processor: Any
    task: Task
    seed: int = 0

    @cached_property
    def engine(self) -> Engine:
        """The engine of the model."""
        return Engine(self.model, self.processor)

    @property
    def story(self) -> str:
        """What the model says, what causes that, and what a method has to see."""
        return self.task.story

    def puzzles(self, count: int) -> Iterator[Puzzle]:
        """Texts with what else could stand at each place; the first are the same for every count."""
        generator = np.random.default_rng([self.seed, zlib.crc32(self.name.encode())])
        for _ in range(count):
            yield self.task.puzzle(generator)

    def items(self, count: int) -> Iterator[Item]:
        """The texts of `puzzles`, for `Explainer.evaluate`."""
        for k, puzzle in enumerate(self.puzzles(count)):
            yield puzzle.item(f"planted-{self.name}-{k}")


def planted(name: PlantedName, *, seed: int = 0, sharpness: float = SHARPNESS, steepness: float = STEEPNESS) -> Planted:
    """A model whose right answer is known by construction, so that a method can be wrong provably.

        truth = planted("switch")
        explainer = ap.Explainer(truth.model, truth.processor)
        explainer.evaluate(truth.items(50), methods=["attnlrp", "leave-one-out"], measures=["ground-truth"])

    Words are made absent by the mask token, which every model takes for a word that says nothing.

    Args:
        name: `"copy"`, `"lookup"`, `"compare"`, `"saturated"`, `"switch"` or `"twice"`; each tells its `story`.
        seed: Of the texts and of the directions in the model's residual stream.
        sharpness: The score of a match in attention, above 0; at low ones attention is spread, and in `"copy"`,
            `"lookup"` and `"compare"` distractors matter.
        steepness: What the saturated neuron reads of a word that is there, above 0.

    Raises:
        ApportionError: There is no planted model of that name, or a strength is not above 0.
    """
    if name not in TASKS:
        raise ApportionError(f"there is no planted model {name!r}; use one of {', '.join(map(repr, TASKS))}.")
    for option, given in (("sharpness", sharpness), ("steepness", steepness)):
        if not given > 0:
            raise ApportionError(f"{option}={given!r} is not possible; give a number above 0.")
    task = TASKS[name]
    model = model_of(task.circuit(Strengths(sharpness=sharpness, steepness=steepness)), seed=seed)
    model.config._name_or_path = f"planted-{name}"
    return Planted(name, model, word_tokenizer(), task, seed)
