"""A sentence whose verb must agree with a known noun."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from apportion.evaluation._item import Region

Number = Literal["singular", "plural"]


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """A sentence in parts around its verb, with the places of the nouns that compete for the verb's number.

    Args:
        id: Its name; each sentence of a source has its own.
        source: Where it comes from, such as `"generated"` or `"blimp"`.
        construction: What stands between subject and verb; the name is the source's own.
        before: The text before the verb, without the space between them.
        good: The form of the verb that agrees.
        bad: The form that does not.
        after: The rest, with the space or the mark that it begins with; may be empty.
        number: The subject's.
        subject: Where in `before` the subject's head noun stands; empty where the source does not tell.
        distractors: Where the other nouns before the verb stand, as far as the source tells; those between subject and
            verb, except where LM_syneval sets one before the subject.
        attractors: Those of them whose number is not the subject's.
        n_attractors: How many attractors there are, by the source's own count.
        n_distractors: How many other nouns there are; None where the source does not tell.
    """

    id: str
    source: str
    construction: str
    before: str
    good: str
    bad: str
    after: str = ""
    number: Number
    subject: tuple[Region, ...] = ()
    distractors: tuple[Region, ...] = ()
    attractors: tuple[Region, ...] = ()
    n_attractors: int
    n_distractors: int | None = None

    @property
    def text(self) -> str:
        """The whole sentence, with the form that agrees."""
        return f"{self.before} {self.good}{self.after}"

    def words_at(self, regions: tuple[Region, ...]) -> list[str]:
        """What `before` spells at these places."""
        return [self.before[start:end] for start, end in regions]


_SINGULAR = {"is": "are", "was": "were", "has": "have", "does": "do"}


def number_of(good: str, bad: str) -> Number | None:
    """The number that a form of an English verb agrees with, told from its two forms; None where they do not tell."""
    first, second = (form.split()[0].removesuffix("n't").lower() if form.split() else "" for form in (good, bad))
    for one, other, number in ((first, second, "singular"), (second, first, "plural")):
        # BLiMP sets "is" beside "were", so either form decides alone.
        if one in _SINGULAR or other in _SINGULAR.values():
            return "singular" if number == "singular" else "plural"
    if first.endswith("s") and len(first) > len(second):
        return "singular"
    if second.endswith("s") and len(second) > len(first):
        return "plural"
    return None
