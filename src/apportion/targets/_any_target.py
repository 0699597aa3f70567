"""What every target has in common: which rows of the output it reads, and the number that it makes of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class NamedOutputs(Protocol):
    """What targets ask of a model's outputs: where they stand, and what rows and columns are called."""

    def length(self, prompt: Any) -> int:
        """How many rows the output has for a prompt."""

    def row(self, prompt: Any, position: int | str | None) -> tuple[int, ...]:
        """The row that is read by default or at a position; empty where the output has one row."""

    def index(self, output: str | int, size: int) -> int:
        """The column of an output given by name or id, among so many."""

    def token_ids(self, text: str | tuple[int, ...]) -> list[int]:
        """The token ids of a text."""

    def label(self, index: int) -> str:
        """Name of a column."""

    def shown(self, index: int) -> str:
        """Name of a column as it stands in a sentence."""


@dataclass(frozen=True)
class At:
    """Where a target is read in a batch.

    Args:
        example: Index of the example.
        column: Index of the target among all that are asked.
        rows: The rows of the example's output that it reads.
    """

    example: int
    column: int
    rows: tuple[int, ...]


@dataclass(frozen=True)
class TargetFn:
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


class AnyTarget(ABC):
    """A number that is read from the model's output and divided among the features.

    A new kind of target is a subclass; a number that is computed from the output is best a `Computed`.
    """

    #: Whether it names outputs of the model, tokens or classes, and reads nothing but rows of its logits.
    names_outputs: ClassVar[bool] = False
    #: Whether it is computed as a part of the model's graph.
    in_graph: ClassVar[bool] = False
    #: Whether it is a function of all that the model returns, and so of one prompt at a time.
    of_whole_output: ClassVar[bool] = False
    #: Whether it adds tokens to the prompt, so that it has to be asked alone.
    extends_prompt: ClassVar[bool] = False

    @abstractmethod
    def as_function(self, head: NamedOutputs, at: At, logits: Any) -> TargetFn:
        """The target as a function of the tensor of outputs, or of the whole output.

        Args:
            head: The model's outputs.
            at: Where it is read.
            logits: The outputs, to find the most likely.

        Raises:
            ApportionError: The model has no such output.
        """

    def extension(self, head: NamedOutputs) -> list[int]:
        """The token ids that it adds to the prompt."""
        return []

    def rows(self, prompt: Any, head: NamedOutputs) -> tuple[int, ...]:
        """The rows of the output that it reads; none where the output has one row or it reads the whole."""
        return ()

    def own_rows(self, rows: tuple[int, ...]) -> tuple[int, ...]:
        """Those of its rows at which the model reads tokens of the target itself."""
        return ()

    def terms(self, rows: tuple[int, ...]) -> int:
        """How many outputs it sums."""
        return 1

    def resolved(self, head: NamedOutputs, at: At, logits: Tensor) -> AnyTarget:
        """The target with the most likely output filled in where none is named."""
        return self

    @property
    def likelihood(self) -> Literal["probability", "log-probability"] | None:
        """How it states a probability: as it is, as its logarithm, or not at all."""
        return None

    def as_probability(self) -> AnyTarget | None:
        """The same output, read as a probability; None where that has no meaning."""
        return None

    def against_each(self) -> list[AnyTarget]:
        """The named output against each of its contrasts alone."""
        return []

    def likeliest(self) -> AnyTarget | None:
        """The most likely output, read in the place of the named one; None where no output is named."""
        return None

    @property
    def single_place(self) -> Any:
        """The place in the last layer that it reads, where it reads one or the mean of the patches; else None."""
        return None

    def to_dict(self) -> dict[str, Any] | None:
        """The target as JSON has it; None where it cannot be written."""
        return None
