"""A target: the number, read from the model's output, that is divided among the features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from apportion.core import ApportionError
from apportion.targets._computed import Computed

Unit = Literal["logit", "log-probability", "probability"]
UNITS: tuple[Unit, ...] = ("logit", "log-probability", "probability")


@dataclass(frozen=True)
class Target:
    """One output of the model, or its difference to others.

    Args:
        output: A token or class, by name or id; None for the one that the model finds most likely.
        contrast: Outputs whose mean is subtracted.
        unit: What is read of each output.
        position: For models with an output per token: which token's output, as an index or, for classifiers of
            tokens, as a word that occurs once. By default the last token, or the masked one.
    """

    output: str | int | None = None
    contrast: tuple[str | int, ...] = ()
    unit: Unit = "logit"
    position: int | str | None = None

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ApportionError(f"unit={self.unit!r} is not known; use one of {', '.join(map(repr, UNITS))}.")
        if isinstance(self.contrast, str | int):
            object.__setattr__(self, "contrast", (self.contrast,))


@dataclass(frozen=True)
class Span:
    """A continuation of the prompt: the sum of its tokens' log-probabilities, each given the tokens before it.

    Args:
        text: The continuation, or its token ids.
        unit: What is summed: log-probabilities, whose sum is that of the whole continuation, or logits.
    """

    text: str | tuple[int, ...]
    unit: Literal["log-probability", "logit"] = "log-probability"

    def __post_init__(self) -> None:
        if self.unit not in ("log-probability", "logit"):
            raise ApportionError(
                f"unit={self.unit!r} does not add up over a span; use 'log-probability', or 'logit' for sums of logits."
            )
        if not self.text:
            raise ApportionError("the span to explain is empty; give a text such as Span(' Paris, of course').")
        if not isinstance(self.text, str):
            object.__setattr__(self, "text", tuple(self.text))


AnyTarget = Target | Span | Computed | Callable[[Any], Tensor]


def as_targets(
    target: Any, contrast: str | int | Sequence[str | int] | None, unit: Unit, position: int | str | None
) -> list[AnyTarget]:
    """The targets that `explain`'s arguments ask for."""
    contrasts = () if contrast is None else (contrast,) if isinstance(contrast, str | int) else tuple(contrast)
    given = list(target) if isinstance(target, list | tuple) else [target]
    if not given:
        raise ApportionError("target is an empty list; leave it out for the most likely output, or name one.")
    targets: list[AnyTarget] = []
    for one in given:
        if isinstance(one, Target | Span | Computed) or callable(one):
            if contrasts or unit != "logit" or position is not None:
                raise ApportionError(
                    f"contrast, unit and position belong inside Target(...) when the target is a {type(one).__name__}."
                )
            targets.append(one)
        elif one is None or isinstance(one, str | int):
            targets.append(Target(one, contrasts, unit, position))
        else:
            raise ApportionError(
                f"target {one!r} is a {type(one).__name__}; give a token or class (text or id), a Target, a Span, a "
                "function of the model's output, or a list of these."
            )
    if len(targets) > 1 and any(isinstance(t, Span) for t in targets):
        raise ApportionError("a Span extends the prompt, so it has to be the only target; explain several one by one.")
    return targets


@dataclass(frozen=True)
class Reading:
    """A target as a function of one tensor of the model's output.

    Args:
        value: From that tensor, or its examples in a tuple, to the number that is divided.
        label: As the reader should see it.
        unit: As the reader should see it.
        linear: Whether the number is a weighted sum of outputs, so that nothing is lost in reading it.
    """

    value: Callable[[Any], Tensor]
    label: str
    unit: str
    linear: bool = False


def read_outputs(
    place: Callable[[Tensor], Tensor],
    output: int,
    contrast: Sequence[int],
    unit: Unit,
    label: str,
    contrasts: Sequence[str],
) -> Reading:
    """A reading of one output, less the mean of others.

    Args:
        place: Takes the vector of outputs out of the model's tensor.
        output: Index of the output.
        contrast: Indices of the outputs to subtract.
        unit: What is read of each.
        label: Name of the output.
        contrasts: Names of the others.
    """

    def value(tensor: Tensor) -> Tensor:
        row = place(tensor)
        if unit == "log-probability":
            row = row.float().log_softmax(-1) if row.dtype.itemsize < 4 else row.log_softmax(-1)
        elif unit == "probability":
            row = row.float().softmax(-1) if row.dtype.itemsize < 4 else row.softmax(-1)
        chosen = row[output]
        return chosen - row[list(contrast)].mean() if contrast else chosen

    if not contrast:
        return Reading(value, label, unit, linear=unit == "logit")
    others = contrasts[0] if len(contrasts) == 1 else f"mean({', '.join(contrasts)})"
    return Reading(value, f"{label} − {others}", f"{unit} difference", linear=unit != "probability")


def read_span(
    place: Callable[[Tensor], Tensor],
    ids: Sequence[int],
    label: str,
    unit: Literal["log-probability", "logit"] = "log-probability",
) -> Reading:
    """A reading of a sum of log-probabilities or logits, of the tokens that follow the rows that `place` takes out."""

    def value(tensor: Tensor) -> Tensor:
        rows = place(tensor)
        rows = rows.float() if rows.dtype.itemsize < 4 else rows
        chosen = torch.as_tensor(ids, device=rows.device)
        outputs = rows if unit == "logit" else rows.log_softmax(-1)
        return outputs.gather(-1, chosen[:, None]).sum()

    return Reading(value, label, unit if unit != "logit" else summed_unit(unit, len(ids)), linear=unit == "logit")


def summed_unit(unit: str, count: int) -> str:
    """The unit of a sum over tokens: log-probabilities add up to that of the span, other units are named as sums."""
    return unit if count == 1 or unit.startswith("log-probability") else f"{unit}, summed"


def read_computed(example: int, target: int, label: str, unit: str) -> Reading:
    """A reading of a number that the graph holds already, by example and target."""
    return Reading(lambda tensor: tensor[example][target], label, unit, linear=True)


def read_callable(function: Callable[[Any], Tensor]) -> Reading:
    """A reading of the user's own number."""
    name = getattr(function, "__name__", type(function).__name__)

    def value(output: Any) -> Tensor:
        number = function(output)
        if not isinstance(number, Tensor) or number.numel() != 1:
            given = f"a tensor of shape {tuple(number.shape)}" if isinstance(number, Tensor) else type(number).__name__
            raise ApportionError(f"the target {name} returned {given}; it must return one number as a tensor.")
        if torch.is_grad_enabled() and not number.requires_grad:
            raise ApportionError(f"the target {name} does not depend on the model's output, so it cannot be divided.")
        return number.reshape(())

    return Reading(value, name, name)
