"""A payoff: the attributions by a first-order method when only some players are present."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.games import AnyMasker, Players, as_masker, in_prompt, presence
from apportion.methods import Method
from apportion.task import AttributionTask, Variant

#: How many tokens are explained together: fewer than are read together, since the graph of each is kept.
TOKENS_AT_ONCE = 1024

#: How many changed prompts are built at a time.
_MADE_AT_ONCE = 256

AttributionPayoff = Callable[[Bool[Tensor, "coalitions players"]], Float[Tensor, "coalitions outputs"]]


def attribution_payoff(
    task: AttributionTask, method: Method, players: Players, masker: AnyMasker, targets: Sequence[Sequence[int]]
) -> AttributionPayoff:
    """A function from coalitions, one per row, to a method's attributions to groups of features.

    All coalitions of one batch share a forward pass and, for a method that propagates, one backward pass for each of
    the task's targets.

    Args:
        task: About one prompt, with its targets; its passes count the cost.
        method: Any first-order method that scores the prompt's own features.
        players: The parts that a coalition may remove.
        masker: How they are removed.
        targets: Groups of the prompt's features, whose scores are summed; those of absent features count 0.

    Returns:
        A payoff whose outputs are the groups for the task's first target, then for the second, and so on.
    """
    chosen = in_prompt(as_masker(masker), task)
    count = len(task.prompts[0].features)
    of_group = torch.zeros(count, len(targets), dtype=torch.float64)
    for k, members in enumerate(targets):
        of_group[list(members), k] = 1

    def payoff(coalitions: Bool[Tensor, "coalitions players"]) -> Float[Tensor, "coalitions outputs"]:
        present = presence(players, coalitions, count)
        rows = []
        for some in present.split(_MADE_AT_ONCE):
            variants = [chosen.variant(task, 0, row) for row in some]
            scores = scores_of_variants(task, method, variants)
            rows.append((scores * some[:, None]) @ of_group)
        return torch.cat(rows).flatten(1)

    return payoff


def scores_of_variants(
    task: AttributionTask, method: Method, variants: Sequence[Variant]
) -> Float[Tensor, "variants targets features"]:
    """A method's attributions to a prompt's features in changed prompts; 0 for features that were removed.

    The targets are those resolved on the unchanged prompt.

    Raises:
        ApportionError: The method scores groups other than the prompt's own features, or does not support a variant.
    """
    found = torch.zeros(len(variants), len(task.targets), len(task.prompts[0].features), dtype=torch.float64)
    for members in task.running_together(variants, tokens=TOKENS_AT_ONCE):
        some = [variants[i] for i in members]
        asked = AttributionTask(
            task.head,
            [variant.prompt for variant in some],
            task.resolved[0],
            detail=method.detail,
            rows=[variant.rows for variant in some],
        )
        asked.passes, asked.summands, asked.last_method = task.passes, method.summands, True
        changes = [variant.change for variant in some if variant.change is not None]
        with changes[0].applied_to(task.head.model, changes) if changes else nullcontext():
            shares = method.attribute(asked)
        if shares.features is not None:
            raise ApportionError(
                f"the method {method.name!r} divides among {len(shares.features[0])} groups of its own, so features "
                "have no scores; leave its option features at 'tokens', and name the players of the game."
            )
        for i, variant, scores in zip(members, some, shares.scores, strict=True):
            kept = range(found.shape[2]) if variant.kept is None else variant.kept
            places = torch.tensor([(place, k) for k, place in enumerate(kept) if place >= 0]).T
            found[i][:, places[0]] = scores.detach().double().cpu()[:, places[1]]
    return found
