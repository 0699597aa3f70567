"""A user's function as the target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from apportion.core import ApportionError
from apportion.targets._any_target import AnyTarget, At, NamedOutputs, TargetFn


@dataclass(frozen=True)
class Function(AnyTarget):
    """A function from the model's whole output for one prompt to one number, a tensor that depends on the output."""

    function: Callable[[Any], Tensor]

    of_whole_output: ClassVar[bool] = True

    def as_function(self, head: NamedOutputs, at: At, logits: Any) -> TargetFn:
        """The function's number; reading it rejects other values, and numbers that do not depend on the output."""
        name = getattr(self.function, "__name__", type(self.function).__name__)

        def value(output: Any) -> Tensor:
            number = self.function(output)
            if not isinstance(number, Tensor) or number.numel() != 1:
                shape = f"a tensor of shape {tuple(number.shape)}" if isinstance(number, Tensor) else None
                given = shape or type(number).__name__
                raise ApportionError(f"the target {name} returned {given}; it must return one number as a tensor.")
            if torch.is_grad_enabled() and not number.requires_grad:
                raise ApportionError(f"the target {name} does not depend on the model's output.")
            return number.reshape(())

        return TargetFn(value, name, name)
