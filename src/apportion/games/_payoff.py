"""A payoff: the value of the targets when only a coalition of players is present."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.games._players import Players
from apportion.games.maskers import AnyMasker, as_masker, in_prompt
from apportion.task import AttributionTask

Payoff = Callable[[Bool[Tensor, "coalitions players"]], Float[Tensor, "coalitions targets"]]

#: How many changed prompts are held in memory at once.
_MADE_AT_ONCE = 512
_IMAGES_AT_ONCE = 64


def target_payoff(task: AttributionTask, example: int, players: Players, masker: AnyMasker) -> Payoff:
    """The payoff of one of a task's prompts: the targets' values when the masker hides all players but a coalition."""
    chosen = in_prompt(as_masker(masker), task)
    made = _IMAGES_AT_ONCE if task.prompts[example].continuous_inputs else _MADE_AT_ONCE

    def payoff(coalitions: Bool[Tensor, "coalitions players"]) -> Float[Tensor, "coalitions targets"]:
        present = presence(players, coalitions, len(task.prompts[example].features))
        chunks = ([chosen.variant(task, example, row) for row in some] for some in present.split(made))
        return torch.cat([task.evaluate(example, variants) for variants in chunks])

    return payoff


def presence(
    players: Players, coalitions: Bool[Tensor, "coalitions players"], features: int
) -> Bool[Tensor, "coalitions features"]:
    """Which features of the prompt are present in each coalition; features outside all players always are."""
    present = torch.ones(len(coalitions), features, dtype=torch.bool)
    for player, group in enumerate(players.groups):
        present[:, list(group)] = coalitions[:, player : player + 1].cpu()
    return present
