"""A span question: a text, a question about it, and where in the text its answer stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from apportion.evaluation._item import Region


@dataclass(frozen=True, kw_only=True)
class SpanQuestion:
    """A question whose answer is a part of a text.

    Args:
        id: Its name; each question's is different.
        context: The text.
        question: The question.
        regions: Where in the context the answer stands; several where annotators chose different parts. The first is
            the answer.
        opening: How a sentence that answers begins, up to the answer, such as "Anna lives in"; may be empty.
        others: What else in the context is of the answer's kind, such as other people's towns, where that is known.
        groups: What a summary may be broken down by, such as the number of facts.
    """

    id: str
    context: str
    question: str
    regions: tuple[Region, ...]
    opening: str = ""
    others: tuple[str, ...] = ()
    groups: Mapping[str, str | int | bool] = field(default_factory=dict)

    @property
    def answer(self) -> str:
        """The answer, as the context has it."""
        start, end = self.regions[0]
        return self.context[start:end]
