"""Games: a task's prompts as games of their parts, and the players' values as shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from apportion.core import AnyFeatures
from apportion.games import (
    AnyMasker,
    CooperativeGame,
    Estimate,
    Players,
    as_masker,
    in_prompt,
    target_payoff,
    to_features,
)
from apportion.methods._method import Shares
from apportion.task import AttributionTask


def game_of(task: AttributionTask, example: int, players: Players, masker: AnyMasker, *, doing: str) -> CooperativeGame:
    """The game whose payoff is the targets' values with only the present players of one prompt."""
    payoff = target_payoff(task, example, players, masker)
    return CooperativeGame(len(players.groups), payoff, progress=task.progress, label=doing)


def shares_of(
    task: AttributionTask,
    players: Sequence[Players],
    estimates: Sequence[Estimate],
    *,
    chosen: Literal["auto"] | AnyFeatures,
    masker: AnyMasker,
) -> Shares:
    """The values of each prompt's players as scores; features that are always present get exactly 0.

    `chosen` and `masker` are the options as the user gave them: tokens are the prompt's own features, and the result
    records the actual masker.
    """
    errors = [
        None if found.standard_errors is None else to_features(who, found.standard_errors)
        for who, found in zip(players, estimates, strict=True)
    ]
    return Shares(
        scores=[to_features(who, found.values) for who, found in zip(players, estimates, strict=True)],
        standard_errors=None if all(error is None for error in errors) else errors,
        features=None if chosen in ("tokens", "patches") else [who.features for who in players],
        options={"masker": in_prompt(as_masker(masker), task).name},
    )
