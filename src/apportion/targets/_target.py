"""An output of the model as the target: a token or class, or its difference to others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import Tensor

from apportion.core import ApportionError
from apportion.targets._any_target import AnyTarget, At, NamedOutputs, TargetFn

Unit = Literal["logit", "log-probability", "probability"]
UNITS: tuple[Unit, ...] = ("logit", "log-probability", "probability")


@dataclass(frozen=True)
class Target(AnyTarget):
    """One output of the model, or its difference to others.

    Args:
        output: A token or class, by name or id; None for the most likely one.
        contrast: Outputs whose mean is subtracted.
        unit: The unit of the outputs.
        position: For models with an output per token: which token's output, as an index or, for classifiers of
            tokens, as a word that occurs once. By default the last token, or the masked one.
    """

    output: str | int | None = None
    contrast: tuple[str | int, ...] = ()
    unit: Unit = "logit"
    position: int | str | None = None

    names_outputs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ApportionError(f"unit={self.unit!r} is not known; use one of {', '.join(map(repr, UNITS))}.")
        if isinstance(self.contrast, str | int):
            object.__setattr__(self, "contrast", (self.contrast,))

    def rows(self, prompt: Any, head: NamedOutputs) -> tuple[int, ...]:
        """The row at its position."""
        return head.row(prompt, self.position)

    def resolved(self, head: NamedOutputs, at: At, logits: Tensor) -> Target:
        """The target with its outputs as columns, the most likely one if none is named."""
        output, contrast = self._columns(head, logits[at.example][at.rows])
        return replace(self, output=output, contrast=contrast)

    def as_function(self, head: NamedOutputs, at: At, logits: Tensor) -> TargetFn:
        """The output minus the mean of its contrasts.

        Raises:
            ApportionError: The model has no such output, or output and contrast are the same.
        """
        output, contrast = self._columns(head, logits[at.example][at.rows])
        if output in contrast:
            raise ApportionError(f"target and contrast are both {head.shown(output)}; their difference is always 0.")

        def value(tensor: Any) -> Tensor:
            row: Tensor = tensor[at.example][at.rows]
            if self.unit != "logit":
                row = row.float() if row.dtype.itemsize < 4 else row
                row = row.log_softmax(-1) if self.unit == "log-probability" else row.softmax(-1)
            chosen = row[output]
            return chosen - row[list(contrast)].mean() if contrast else chosen

        label = head.shown(output)
        if not contrast:
            return TargetFn(value, label, self.unit, linear=self.unit == "logit")
        names = [head.shown(other) for other in contrast]
        others = names[0] if len(names) == 1 else f"mean({', '.join(names)})"
        return TargetFn(value, f"{label} − {others}", f"{self.unit} difference", linear=self.unit != "probability")

    def _columns(self, head: NamedOutputs, row: Tensor) -> tuple[int, tuple[int, ...]]:
        output = int(row.argmax()) if self.output is None else head.index(self.output, row.numel())
        return output, tuple(head.index(other, row.numel()) for other in self.contrast)

    @property
    def likelihood(self) -> Literal["probability", "log-probability"] | None:
        """Its unit, if that is a probability or its logarithm; None for a difference."""
        return None if self.contrast or self.unit == "logit" else self.unit

    def as_probability(self) -> Target:
        """The same output, read as a probability."""
        return replace(self, unit="probability")

    def against_each(self) -> list[AnyTarget]:
        """The named output against each of its contrasts alone."""
        return [] if self.output is None else [replace(self, contrast=(other,)) for other in self.contrast]

    def likeliest(self) -> Target | None:
        """The most likely output instead of the named one."""
        return None if self.output is None else replace(self, output=None)

    def to_dict(self) -> dict[str, Any]:
        """The target as JSON-ready values."""
        return {"target": self.output, "contrast": self.contrast, "unit": self.unit, "position": self.position}
