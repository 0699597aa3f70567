"""Random order: the baseline that an explanation must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from apportion.methods import Method, Shares
from apportion.results.evaluation import RANDOM
from apportion.task import AttributionTask


@final
@dataclass(frozen=True, kw_only=True)
class Random(Method):
    """Shares drawn at random, between 0 and 1.

    Args:
        seed: Of the drawing.
    """

    name = RANDOM

    seed: int = 0

    def attribute(self, task: AttributionTask) -> Shares:
        """Draw a share for every feature."""
        generator = torch.Generator().manual_seed(self.seed)
        shape = len(task.targets), len(task.prompts[0].features)
        return Shares(scores=[torch.rand(shape, generator=generator, dtype=torch.float64) for _ in task.prompts])
