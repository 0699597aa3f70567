"""Shares of features: the amounts at an example's token embeddings and continuous inputs, by target and feature."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.models.inputs import ContinuousInput
from apportion.relevance import DEEP
from apportion.relevance import NAME as VISUAL_TOKENS
from apportion.task import AttributionTask


def shares_of_tokens(amounts: Sequence[tuple[str, Tensor]], task: AttributionTask, example: int) -> Tensor:
    """Shares by target and feature of one example.

    Args:
        amounts: For each look-up of tokens and continuous input, the name of the model's input, and the amounts at its
            places: an axis of targets, then the axes that the model gave the ids, or those of the input.
        task: The batch of the look-ups.
        example: The index of the example.

    Raises:
        ApportionError: No embedding of an input was seen, or padding received something.
    """
    prompt = task.prompts[example]
    pieces = [_of_continuous_input(continuous, amounts, task, example) for continuous in prompt.continuous_inputs]
    for name, count in prompt.parts.items():
        found = [_by_place(amount, task, name) for ids, amount in amounts if ids == name]
        if not found:
            raise ApportionError(
                f"no embedding of {name!r} was seen in {type(task.head.model).__name__}, "
                "so its tokens cannot get shares."
            )
        total = torch.stack(found).sum(0)[:, example]
        if bool((total[:, count:] != 0).any()):
            raise ApportionError(
                "padding received relevance: this model lets it reach the prediction; "
                "explain one text at a time (batch_size=1)."
            )
        pieces.append(total[:, :count])
    return torch.cat([piece.cpu() for piece in pieces], 1)


def _of_continuous_input(
    continuous: ContinuousInput, amounts: Sequence[tuple[str, Tensor]], task: AttributionTask, example: int
) -> Float[Tensor, "targets feature"]:
    """The shares of a continuous input's features."""
    found = [amount for name, amount in amounts if name == continuous.name]
    if not found:
        raise ApportionError(
            f"{type(task.head.model).__name__} makes no use of {continuous.name!r}, so its features cannot get shares."
        )
    if continuous.name == VISUAL_TOKENS:
        # One tensor per image; those that later layers read have the same places.
        rows = _rows(found)
        later = [amount for name, amount in amounts if name == DEEP]
        if later:
            rows = rows + _rows(later).reshape(len(rows), -1, rows.shape[1]).sum(1)
        return continuous.summed(rows[..., None])
    mine = [amount[:, example : example + 1] if continuous.batched else amount for amount in found]
    return torch.stack([continuous.summed(amount) for amount in mine]).sum(0)


def _rows(amounts: Sequence[Tensor]) -> Float[Tensor, "targets row"]:
    """The amounts of the rows of several tensors."""
    return torch.cat([amount.flatten(1, -2).sum(-1) for amount in amounts], 1)


def _by_place(amount: Tensor, task: AttributionTask, name: str) -> Tensor:
    """The amounts of one look-up as (targets, batch, place), for any shape that the model gave the ids."""
    batch, length = task.inputs[name].shape[:2]
    targets = len(amount)
    flat = amount.reshape(targets, -1)
    if flat.shape[1] == batch * length:
        return flat.reshape(targets, batch, length)
    if amount.ndim == 3 and amount.shape[1] == batch and amount.shape[2] > length:
        # Models with windows pad the tokens themselves; the padding must receive nothing.
        if bool((amount[:, :, length:] != 0).any()):
            raise ApportionError("the model's own padding received relevance, so the tokens' shares are incomplete.")
        return amount[:, :, :length]
    raise ApportionError(
        f"the model looks up {name!r} as {tuple(amount.shape[1:])} places for {batch} × {length} tokens; "
        "its shares cannot be told apart."
    )
