"""A task: what a planted model computes, and the puzzles that it solves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from apportion.evaluation.planted._circuit import Circuit
from apportion.evaluation.planted._puzzle import Place, Puzzle
from apportion.evaluation.planted._words import FILLERS, MASK

#: The score of a match in attention; what does not match then weighs less than 1e-17, the start too.
SHARPNESS = 80.0
#: What a neuron reads of a word that is there, where neurons saturate: tanh(25) is 1, and its slope 0, in float64.
STEEPNESS = 25.0


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """How hard a planted model decides.

    Args:
        sharpness: The score of a match in attention.
        steepness: What a saturated neuron reads of a word that is there.
    """

    sharpness: float = SHARPNESS
    steepness: float = STEEPNESS


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a planted model computes.

    Args:
        story: What it says, what causes that, and what a method has to see, in a few sentences.
        circuit: The weights.
        puzzle: Draws a puzzle.
        jointly: Whether only all causes together change the target, each being enough.
    """

    story: str
    circuit: Callable[[Strengths], Circuit]
    puzzle: Callable[[np.random.Generator], Puzzle]
    jointly: bool = False


def drawn(generator: np.random.Generator, words: tuple[str, ...], count: int, *, again: bool = True) -> list[str]:
    """Some of the words, in random order.

    Args:
        generator: Draws them.
        words: Which there are.
        count: How many.
        again: Whether one may come twice.
    """
    return [str(word) for word in generator.choice(words, count, replace=again)]


def without(words: tuple[str, ...], *left_out: str) -> tuple[str, ...]:
    """The words but for some, and the mask token."""
    return (*(word for word in words if word not in left_out), MASK)


def among_fillers(generator: np.random.Generator, causes: list[Place]) -> tuple[Place, ...]:
    """Eight to fourteen fillers, with causes anywhere but at the end, where the answer is read."""
    count = int(generator.integers(8, 15))
    places = [Place(word=word, others=without(FILLERS, word)) for word in drawn(generator, FILLERS, count)]
    for cause in causes:
        places.insert(int(generator.integers(0, len(places))), cause)
    return tuple(places)
