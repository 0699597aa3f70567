"""A puzzle: a text for a planted model, with what stands where and what else could."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from apportion.evaluation._item import Item, Region


@dataclass(frozen=True, kw_only=True)
class Place:
    """One word of a puzzle.

    Args:
        word: What stands there.
        others: What else could: of a cause, words that change the target; of a distractor, words that do not.
        cause: Whether the target depends on it.
    """

    word: str
    others: tuple[str, ...]
    cause: bool = False


@dataclass(frozen=True, kw_only=True)
class Puzzle:
    """A text whose answer, and the answer's cause, are known.

    Args:
        places: Its words.
        answer: What the model says.
        contrast: The other answer, for a model that chooses between two; None where the answer's logit is explained.
    """

    places: tuple[Place, ...]
    answer: str
    contrast: str | None = None

    @property
    def text(self) -> str:
        """The words, with spaces between."""
        return " ".join(place.word for place in self.places)

    @property
    def causes(self) -> tuple[int, ...]:
        """The indices of the words that the target depends on."""
        return tuple(i for i, place in enumerate(self.places) if place.cause)

    def item(self, name: str) -> Item:
        """The puzzle as a benchmark takes it, its causes by character."""
        regions = list(self._regions())
        return Item(
            id=name,
            prompt=self.text,
            target=self.answer,
            contrast=self.contrast,
            truth=tuple(regions[i] for i in self.causes),
            groups={"words": len(self.places)},
        )

    def with_words(self, words: dict[int, str]) -> Puzzle:
        """The same puzzle, asked in the same way, with other words at some of its places."""
        places = (replace(place, word=words.get(i, place.word)) for i, place in enumerate(self.places))
        return replace(self, places=tuple(places))

    def _regions(self) -> Iterator[Region]:
        start = 0
        for place in self.places:
            yield start, start + len(place.word)
            start += len(place.word) + 1
