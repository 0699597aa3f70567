"""Many prompts: their attributions one after another, in batches of similar length."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from apportion.core import ApportionError
from apportion.core import progress as track_progress
from apportion.engine._engine import Engine
from apportion.engine._request import Request
from apportion.models.inputs import Prompt, each_of
from apportion.results import Attribution
from apportion.task import batches

#: How many batches of prompts are read ahead, so that prompts of similar length run together.
READ_AHEAD = 16

Outcome = tuple[int, Attribution | ApportionError]


def explained_in_turn(
    engine: Engine, prompts: Any, request: Request, *, batch_size: int, progress: bool
) -> Iterator[Outcome]:
    """The number of each prompt with its attribution or its error; prompts are read lazily, as `explain_many` says."""
    numbered = enumerate(each_of(prompts, engine.model))
    total = len(prompts) if isinstance(prompts, list | tuple) else None
    at_once = 1 if batch_size == 1 else batch_size * READ_AHEAD
    windows = iter(lambda: list(islice(numbered, at_once)), [])
    outcomes = (outcome for window in windows for outcome in _of_window(engine, window, request, batch_size))
    yield from track_progress(outcomes, "explaining", show=progress and total != 1, total=total)


def _of_window(engine: Engine, window: list[tuple[int, Any]], request: Request, batch_size: int) -> Iterator[Outcome]:
    outcomes: dict[int, Attribution | ApportionError] = {}
    groups: dict[tuple[Any, ...], list[tuple[int, Any, Prompt]]] = {}
    for number, given in window:
        try:
            prompt = engine.prompt(given, request.regions, what="each item of explain_many")
        except ApportionError as error:
            outcomes[number] = error
            continue
        key = (engine.head_of(prompt), prompt.has_pixels, prompt.form == "caption")
        groups.setdefault(key, []).append((number, given, prompt))
    for (head, *_), members in groups.items():
        for together in batches(head, [prompt for _, _, prompt in members], batch_size):
            outcomes |= _of_batch(engine, [members[k] for k in together], request)
    return iter(sorted(outcomes.items()))


def _of_batch(
    engine: Engine, members: list[tuple[int, Any, Prompt]], request: Request
) -> dict[int, Attribution | ApportionError]:
    numbers = [number for number, _, _ in members]
    try:
        targets = request.targets(engine, members[0][1])
        found = request.answered(engine, [prompt for _, _, prompt in members], targets)
        return dict(zip(numbers, found, strict=True))
    except ApportionError as error:
        if len(members) == 1:
            return {numbers[0]: error}
    # At least one does not fit; explain each alone to find out which.
    apart: dict[int, Attribution | ApportionError] = {}
    for member in members:
        apart |= _of_batch(engine, [member], request)
    return apart
