"""The base class of targets: which rows of the output a target reads, and the number it computes from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class NamedOutputs(Protocol):
    """The names and places of a model's outputs, as targets need them."""

    def length(self, prompt: Any) -> int:
        """How many rows the output has for a prompt."""

    def row(self, prompt: Any, position: int | str | None) -> tuple[int, ...]:
        """The row that is read by default or at a position; empty if the output has one row."""

    def index(self, output: str | int, size: int) -> int:
        """The column of an output given by name or id, below `size`."""

    def token_ids(self, text: str | tuple[int, ...]) -> list[int]:
        """The token ids of a text."""

    def label(self, index: int) -> str:
        """The name of a column."""

    def shown(self, index: int) -> str:
        """The name of a column for use in a sentence."""


@dataclass(frozen=True)
class At:
    """Where a target is read in a batch: the example, the target's index, and the rows of the output that it reads."""

    example: int
    column: int
    rows: tuple[int, ...]


@dataclass(frozen=True)
class TargetFn:
    """A target as a function of one tensor of the model's output.

    Args:
        value: Maps that tensor, or a tuple of its examples, to the number that is divided.
        label: The name to display.
        unit: The unit to display.
        linear: Whether the number is a weighted sum of outputs, so that its derivative loses nothing.
    """

    value: Callable[[Any], Tensor]
    label: str
    unit: str
    linear: bool = False


class AnyTarget(ABC):
    """A number that is read from the model's output and divided among the features.

    A new kind of target is a subclass; for a number that is computed from the output, subclass `Computed`.
    """

    #: Whether it names outputs of the model, tokens or classes, and reads only rows of its logits.
    names_outputs: ClassVar[bool] = False
    #: Whether it is computed as a part of the model's graph.
    in_graph: ClassVar[bool] = False
    #: Whether it is a function of the model's whole output, and so of one prompt at a time.
    of_whole_output: ClassVar[bool] = False
    #: Whether it adds tokens to the prompt, so that it must be the only target.
    extends_prompt: ClassVar[bool] = False

    @abstractmethod
    def as_function(self, head: NamedOutputs, at: At, logits: Any) -> TargetFn:
        """The target as a function of the tensor of outputs, or of the whole output.

        Args:
            head: The names of the model's outputs.
            at: Where it is read.
            logits: The outputs, to find the most likely one.

        Raises:
            ApportionError: The model has no such output.
        """

    def extension(self, head: NamedOutputs) -> list[int]:
        """The token ids that it adds to the prompt."""
        return []

    def rows(self, prompt: Any, head: NamedOutputs) -> tuple[int, ...]:
        """The rows of the output that it reads; none if the output has one row or it reads the whole output."""
        return ()

    def own_rows(self, rows: tuple[int, ...]) -> tuple[int, ...]:
        """The rows among these whose input tokens belong to the target itself."""
        return ()

    def terms(self, rows: tuple[int, ...]) -> int:
        """The number of outputs that it sums."""
        return 1

    def resolved(self, head: NamedOutputs, at: At, logits: Tensor) -> AnyTarget:
        """The target with the most likely output filled in if none is named."""
        return self

    @property
    def likelihood(self) -> Literal["probability", "log-probability"] | None:
        """Whether it is a probability or the logarithm of one; None if neither."""
        return None

    def as_probability(self) -> AnyTarget | None:
        """The same output, read as a probability; None if that has no meaning."""
        return None

    def against_each(self) -> list[AnyTarget]:
        """The named output against each of its contrasts alone."""
        return []

    def likeliest(self) -> AnyTarget | None:
        """The most likely output instead of the named one; None if no output is named."""
        return None

    @property
    def single_place(self) -> Any:
        """The place in the last layer that it reads, if it reads one or the mean of the patches; else None."""
        return None

    def to_dict(self) -> dict[str, Any] | None:
        """The target as JSON-ready values; None if it has none."""
        return None
