"""Played games: a task's prompts as games of their parts, and the players' values as shares."""

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
    """The game in which the targets of one of the prompts are paid to those of its players who are present.

    Args:
        task: With its targets, which are the outputs of the payoff.
        example: Which of its prompts.
        players: Who plays in that prompt.
        masker: How the others are made absent.
        doing: What a progress bar says.
    """
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
    """The values of each prompt's players as scores; what is always present gets exactly 0.

    Args:
        task: That was played.
        players: Of each prompt.
        estimates: Of each prompt.
        chosen: The option that named the players; tokens are the prompt's own features.
        masker: The option that named the masker; the result keeps what it stood for.
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
