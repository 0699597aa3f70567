"""The line "target function" of the ledger, for targets that are not weighted sums of outputs."""

from __future__ import annotations

from dataclasses import replace

import torch

from apportion.core import Ledger
from apportion.task import AttributionTask


def with_target_function(ledger: Ledger, task: AttributionTask) -> Ledger:
    """The accounts of Σ output · derivative as those of the target itself, with a line for the difference."""
    if all(function.linear for function in task.target_values.functions[0]):
        return ledger
    values = torch.tensor(task.target_values.values[0], dtype=ledger.total.dtype)
    return replace(ledger, total=values, lines={**ledger.lines, "target function": values - ledger.total})
