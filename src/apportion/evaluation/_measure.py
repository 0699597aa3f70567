"""A measure: what tells, in numbers, how far an explanation may be believed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from apportion.evaluation._case import Case
from apportion.methods import Method
from apportion.results import Attribution
from apportion.results.evaluation import Column

Found = Mapping[str, float | Sequence[float]]


class Measure(ABC):
    """One way to tell how far an explanation may be believed; `@register_measure` makes it usable by name.

    Options are the fields of a frozen, keyword-only dataclass.
    """

    name: str
    #: What it finds, in the order of tables.
    columns: ClassVar[tuple[Column, ...]]
    #: Whether an item must say where its cause stands.
    needs_truth: ClassVar[bool] = False

    @abstractmethod
    def of(self, case: Case, attribution: Attribution, method: Method) -> Found:
        """What the measure finds for a method's attribution of a case, by column.

        A number that is not defined here, such as a correlation with a constant, is NaN.

        Args:
            case: The item and the model.
            attribution: Of the case's target.
            method: What found it, for measures that ask it again under other circumstances.
        """
