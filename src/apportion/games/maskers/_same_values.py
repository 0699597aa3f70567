"""Whether a changed input gives the targets the same values as the original one."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.models.inputs import dtype_of
from apportion.task import AttributionTask


def as_before(task: AttributionTask, example: int, found: Float[Tensor, " targets"], tolerance: float) -> bool:
    """Whether values equal those of the unchanged example up to a tolerance."""
    known = torch.tensor(task.target_values.values[example], dtype=torch.float64)
    return bool(((found - known).abs() <= tolerance * (1 + known.abs())).all())


def rounding(task: AttributionTask) -> float:
    """The relative rounding error of the dtype that the model computes with."""
    return torch.finfo(dtype_of(task.head.model)).eps
