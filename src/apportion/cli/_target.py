"""The target: the output to divide, and its unit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any

import apportion as ap
from apportion.cli._command import Options, given, what
from apportion.core import ApportionError

# The token with a space in front is another one; if it is this much more likely, it was probably meant.
LIKELIER = 10


class Unit(StrEnum):
    """The unit of an output."""

    LOGIT = "logit"
    LOG_PROBABILITY = "log-probability"
    PROBABILITY = "probability"


UnitOption = Annotated[Unit | None, what("--unit", help="What is read of an output. Default: logit.")]


@dataclass(frozen=True, kw_only=True)
class Output(Options):
    """An output of the model, less others, at a position."""

    target: Annotated[
        list[str] | None,
        what(
            "--target",
            "-t",
            metavar="NAME",
            help="A token or class, with its leading space; may be repeated. Default: the most likely.",
        ),
    ] = None
    contrast: Annotated[
        list[str] | None,
        what("--contrast", "-c", metavar="NAME", help="Subtract this output from the target; of several, their mean."),
    ] = None
    position: Annotated[
        str | None, what("--position", metavar="INDEX", help="Read the target at this token: its index or text.")
    ] = None

    @property
    def options(self) -> dict[str, Any]:
        """The options as `explain` takes them."""
        return given(target=self._target, contrast=self.contrast, position=self._position)

    def hints(self, attribution: ap.Attribution) -> Iterator[str]:
        """Hints at what was probably meant instead."""
        return spacing_hints([*(self.target or ()), *(self.contrast or ())], attribution)

    @property
    def _target(self) -> Any:
        return self.target[0] if self.target and len(self.target) == 1 else self.target

    @property
    def _position(self) -> int | str | None:
        try:
            return None if self.position is None else int(self.position)
        except ValueError:
            return self.position


@dataclass(frozen=True, kw_only=True)
class Target(Output):
    """A target: one output in a unit, or a continuation."""

    span: Annotated[str | None, what("--span", metavar="TEXT", help="Explain a continuation of several tokens.")] = None
    unit: UnitOption = None

    def check(self) -> None:
        """A continuation excludes other targets and units."""
        others = (self.target, self.contrast, self.position, self.unit and self.unit is not Unit.LOGIT)
        if self.span is not None and any(others):
            raise ApportionError(
                "--span is explained by its log-probability, alone: leave out --target, --contrast, --unit and "
                "--position."
            )

    def resolve(self) -> None:
        """A continuation must have a text."""
        _ = self._span

    @property
    def options(self) -> dict[str, Any]:
        """The options as `explain` takes them."""
        return {"target": self._span} if self._span else {**super().options, **given(unit=self.unit)}

    @cached_property
    def _span(self) -> ap.Span | None:
        return None if self.span is None else ap.Span(self.span)


def spacing_hints(given: Sequence[str], attribution: ap.Attribution) -> Iterator[str]:
    """Hints for tokens typed without a leading space, if those with the space are far more likely."""
    probabilities = dict(attribution.prediction)
    explained = " ".join(target.label for target in attribution.explained)
    for name in given:
        spaced = f" {name}"
        # Some tokenizers add the space themselves; then the explained token is not the quoted name.
        if probabilities.get(spaced, 0) > LIKELIER * probabilities.get(name, 0) and f'"{name}"' in explained:
            yield (
                f'hint: "{name}" was explained; "{spaced}", with a space in front, is another token, predicted with '
                f"{100 * probabilities[spaced]:.1f}%."
            )
