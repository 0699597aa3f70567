"""Targets from the arguments of users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from apportion.core import ApportionError
from apportion.targets._any_target import AnyTarget
from apportion.targets._function import Function
from apportion.targets._target import Target, Unit

TargetLike = str | int | AnyTarget | Callable[[Any], Tensor]
"""What users name a target by: a token or class by name or id, a target, or a function of the model's output."""

TargetsLike = TargetLike | Sequence[TargetLike | None] | None
"""One target, several, or None for the most likely output."""

Contrast = str | int | Sequence[str | int] | None
"""Outputs whose mean is subtracted from the target."""


def as_targets(target: TargetsLike, contrast: Contrast, unit: Unit, position: int | str | None) -> list[AnyTarget]:
    """The targets for `explain`'s arguments.

    Raises:
        ApportionError: A target has an unknown type, options do not fit it, or it must be the only one.
    """
    contrasts = () if contrast is None else (contrast,) if isinstance(contrast, str | int) else tuple(contrast)
    given = list(target) if isinstance(target, list | tuple) else [target]
    if not given:
        raise ApportionError("target is an empty list; leave it out for the most likely output, or name one.")
    targets: list[AnyTarget] = []
    for one in given:
        if one is None or isinstance(one, str | int):
            targets.append(Target(one, contrasts, unit, position))
            continue
        if not isinstance(one, AnyTarget) and not callable(one):
            raise ApportionError(
                f"target {one!r} is a {type(one).__name__}; give a token or class (text or id), a Target, a Span, a "
                "function of the model's output, or a list of these."
            )
        if contrasts or unit != "logit" or position is not None:
            raise ApportionError(
                f"contrast, unit and position belong inside Target(...) when the target is a {type(one).__name__}."
            )
        targets.append(one if isinstance(one, AnyTarget) else Function(one))
    if len(targets) > 1 and any(one.extends_prompt for one in targets):
        raise ApportionError("a Span extends the prompt, so it has to be the only target; explain several one by one.")
    return targets
