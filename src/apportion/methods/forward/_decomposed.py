"""An example's forward pass decomposed by the model's anatomy, and the rows of its last layer that targets read."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.methods.forward._captured_attention import CapturedAttention, refuse_images
from apportion.models.anatomy import OTHERS, Anatomy, anatomy, same, tolerance_of
from apportion.task import AttributionTask


def decomposed(task: AttributionTask) -> Anatomy:
    """The anatomy of the model on a task of one example, checked to rebuild the model's outputs, place by token."""
    model = task.head.model
    refuse_images(task.prompts[0], "this method")
    found = anatomy(model, task.inputs)
    task.passes.forward += 1
    ours, theirs = _outputs(found.output), _outputs(task.trace.output).detach()
    if ours.shape != theirs.shape or not same(ours, theirs, tolerance_of(theirs)):
        raise ApportionError(
            f"{type(model).__name__} does not compute its attention as softmax(scores)·values everywhere, so its "
            f"parts would not be the model's; {OTHERS}."
        )
    places, tokens = len(found.layers[0].input), task.prompts[0].length
    if places != tokens or len(task.prompts[0].parts) > 1:
        raise ApportionError(
            f"{type(model).__name__} has {places} places for {tokens} tokens, so they cannot be laid over each other; "
            f"{OTHERS}."
        )
    return found


def rows_read(task: AttributionTask) -> Float[Tensor, "targets n"]:
    """For each target which rows of the last layer it reads, as weights that sum to 1."""
    rows = task.rows[0]
    if not all(rows):
        return torch.stack(CapturedAttention(task).reading)
    weights = torch.zeros(len(rows), task.prompts[0].length, dtype=torch.float64)
    for target, places in enumerate(rows):
        weights[target, list(places)] = 1 / len(places)
    return weights


def _outputs(output: Any) -> Tensor:
    """The tensor that compares two passes: the logits, or the first tensor."""
    if isinstance(output, Tensor):
        return output
    values = output.values() if hasattr(output, "values") else output
    return next(value for value in [getattr(output, "logits", None), *values] if isinstance(value, Tensor))
