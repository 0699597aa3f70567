"""Absence: the targets' values without some of the players."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.core import progress
from apportion.games import Masker, Players, in_prompt, presence
from apportion.methods.perturbation._prefix import PrefixReader
from apportion.task import TOKENS_AT_ONCE, AttributionTask

# How many long changed prompts are built at a time; they may be embeddings.
_MADE_AT_ONCE = 64

# From how many changed prompts on it pays to run the unchanged one again, for its cache.
_WORTHWHILE = 4


def drops(
    task: AttributionTask,
    example: int,
    players: Players,
    masker: Masker,
    coalitions: Bool[Tensor, "coalitions players"],
    prefix_cache: bool,
    doing: str,
) -> Float[Tensor, "coalitions targets"]:
    """The drop of the targets when only a coalition's players are present: f(x) − f(coalition).

    With `prefix_cache`, the tokens before the first absent feature are read once, where model and masker allow it;
    `doing` is the label of the progress bar.
    """
    masker = in_prompt(masker, task)
    prompt = task.prompts[example]
    present = presence(players, coalitions, len(prompt.features))
    starts = [int(row.long().argmin()) for row in present]
    # An image comes before the text and its features before the tokens', so a prompt with an image is read whole.
    reusing = prefix_cache and masker.keeps_prefix and not prompt.continuous_inputs and len(starts) >= _WORTHWHILE
    reader = PrefixReader.of(task, example) if reusing else None
    full = torch.tensor(task.target_values.values[example], dtype=torch.float64) if reader is None else reader.full
    order = sorted(range(len(starts)), key=lambda i: starts[i])
    size = _MADE_AT_ONCE
    if not prompt.continuous_inputs:
        size = max(size, 2 * TOKENS_AT_ONCE // max(1, len(prompt.features)))
    some = [order[k : k + size] for k in range(0, len(order), size)]
    values = torch.empty(len(starts), len(task.targets), dtype=torch.float64)
    for members in progress(some, doing, show=task.progress and len(some) > 1):
        variants = [masker.variant(task, example, present[i]) for i in members]
        if reader is None:
            values[members] = task.evaluate(example, variants)
        else:
            values[members] = reader.values(variants, [starts[i] for i in members])
    return full - values
