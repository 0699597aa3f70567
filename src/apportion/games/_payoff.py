"""A payoff: what a coalition of present players is worth, read from the model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.games._players import Players
from apportion.games.maskers import AnyMasker, as_masker, in_prompt
from apportion.task import AttributionTask

Payoff = Callable[[Bool[Tensor, "coalitions players"]], Float[Tensor, "coalitions targets"]]

#: How many changed prompts are made before they are read, so that embeddings of many do not fill the memory.
_MADE_AT_ONCE = 512
_IMAGES_AT_ONCE = 64


def target_payoff(task: AttributionTask, example: int, players: Players, masker: AnyMasker) -> Payoff:
    """A function from coalitions, one a row, to the values of a task's targets when only they are present.

    Args:
        task: With its targets; what each coalition costs is counted in its passes.
        example: Which of its prompts.
        players: Who plays in that prompt.
        masker: How the others are made absent.
    """
    chosen = in_prompt(as_masker(masker), task)
    made = _IMAGES_AT_ONCE if task.prompts[example].continuous_inputs else _MADE_AT_ONCE

    def payoff(coalitions: Bool[Tensor, "coalitions players"]) -> Float[Tensor, "coalitions targets"]:
        present = presence(players, coalitions, len(task.prompts[example].features))
        values = [
            task.evaluate(example, [chosen.variant(task, example, row) for row in some]) for some in present.split(made)
        ]
        return torch.cat(values)

    return payoff


def presence(
    players: Players, coalitions: Bool[Tensor, "coalitions players"], features: int
) -> Bool[Tensor, "coalitions features"]:
    """Which of the prompt's features are present, by coalition; those that do not play always are."""
    present = torch.ones(len(coalitions), features, dtype=torch.bool)
    for player, group in enumerate(players.groups):
        present[:, list(group)] = coalitions[:, player : player + 1].cpu()
    return present
