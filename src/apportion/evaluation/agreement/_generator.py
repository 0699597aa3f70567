"""The generator: English sentences about agreement, with the exact place of every noun."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

from apportion.core import ApportionError
from apportion.evaluation._item import Region
from apportion.evaluation.agreement._sentence import Number, Sentence
from apportion.evaluation.agreement._vocabulary import (
    NOUNS,
    OBJECT_CLAUSE_VERBS,
    PREDICATES,
    PREPOSITIONS,
    SUBJECT_CLAUSE_VERBS,
    Kind,
    Noun,
    Verb,
)

#: The constructions that are generated, each with an example.
CONSTRUCTIONS = {
    "simple": "The author",
    "prepositional": "The author behind the guards",
    "subject-relative": "The author that admires the guards",
    "subject-relative-past": "The author that admired the guards",
    "object-relative": "The author that the guards know",
    "object-relative-bare": "The author the guards know",
}
MOST = 4
# So many draws without a sentence that is new mean that there is none left, all but certainly.
TRIES = 2_000

KINDS: tuple[Kind, ...] = ("person", "thing", "place")
_FOLLOWING = {kind: tuple(other for other in KINDS if (kind, other) in PREPOSITIONS) for kind in KINDS}
FAMILIES = ("is", "was", "has", "lexical")
_PREDICATES = {
    (kind, family): tuple(p for p in PREDICATES[kind] if p.family == family) for kind in KINDS for family in FAMILIES
}
T = TypeVar("T")


def agreement_sentences(
    *,
    seed: int = 0,
    attractors: int | Collection[int] | None = None,
    constructions: str | Collection[str] | None = None,
    count: int = 30_000,
) -> Iterator[Sentence]:
    """Sentences whose verb agrees with a known noun, no two with the same text up to the verb's form.

    However many are taken from the start, the numbers of attractors differ in frequency by one at most, and so do the
    constructions among those with the same number of attractors (simple sentences have none). So far as the number of
    attractors leaves it open, there are 1 to 4 nouns between subject and verb, equally often, and every pattern of
    singular and plural among them comes in its turn, with a singular and with a plural subject.

    Args:
        seed: Another seed gives other sentences.
        attractors: How many nouns between subject and verb have the other number, 0 to 4; None for all.
        constructions: Names from `CONSTRUCTIONS`; None for all.
        count: How many; there are fewer where no more differ, as of simple sentences alone.

    Raises:
        ApportionError: No sentence fits the request.
    """
    wanted = _attractors(attractors)
    chosen = _constructions(constructions)
    if count < 1:
        raise ApportionError(f"count={count} is not possible; give 1 or more.")
    cells = [row for a in wanted if (row := [_Cell(c, a, seed) for c in chosen if _plans(c, a)])]
    if not cells:
        raise ApportionError("simple sentences have no attractors; ask for attractors=0 or another construction.")
    return _in_turn(cells, count)


def _in_turn(cells: list[list[_Cell]], count: int) -> Iterator[Sentence]:
    """One sentence of each row in turn, from the cells of the row in turn; cells that have no more drop out."""
    turn = 0
    while cells and count:
        row = cells[turn % len(cells)]
        sentence = row[0].next()
        if sentence is None:
            row.pop(0)
            if not row:
                cells.remove(row)
            continue
        row.append(row.pop(0))
        turn, count = turn + 1, count - 1
        yield sentence


class _Cell:
    """The sentences of one construction with so many attractors, in an order of their own, whatever else is asked."""

    def __init__(self, construction: str, attractors: int, seed: int) -> None:
        self.construction = construction
        self.random = random.Random(f"{seed}/{construction}/{attractors}")
        plans = _plans(construction, attractors)
        self.lengths = _Deck(sorted({len(plan) for plan in plans}), self.random)
        self.plans = {n: _Deck([p for p in plans if len(p) == n], self.random) for n in self.lengths.cards}
        self.families = _Deck(FAMILIES, self.random)
        # Neighbouring cells begin with different numbers, so that few sentences are balanced too.
        self.visits, self.seen = list(CONSTRUCTIONS).index(construction) + attractors, set[str]()
        self._turn()

    def next(self) -> Sentence | None:
        """Another sentence; None where there is none left."""
        number: Number = "plural" if self.visits % 2 else "singular"
        while (sentence := self._new(number)) is None:
            self.families.cards.remove(self.family)
            if not self.families.cards:
                return None
            self.families.clear()
            self._turn()
        self.seen.add(sentence.id)
        self.visits += 1
        # The next two have the same pattern and the same kind of verb, with either number.
        if self.visits % 2 == 0:
            self._turn()
        return sentence

    def _turn(self) -> None:
        self.plan, self.family = self.plans[self.lengths.next()].next(), self.families.next()

    def _new(self, number: Number) -> Sentence | None:
        drawn = (self._drawn(number) for _ in range(TRIES))
        return next((sentence for sentence in drawn if sentence.id not in self.seen), None)

    def _drawn(self, number: Number) -> Sentence:
        draw = _Draw(self.random)
        other: Number = "singular" if number == "plural" else "plural"
        numbers = [other if differs else number for differs in self.plan]
        subject = draw.noun(("person",) if self.construction.startswith("subject") else KINDS)
        pieces = [_The(subject, number), *_between(self.construction, subject, number, numbers, draw)]
        predicate = draw.one(_PREDICATES[subject.kind, self.family])
        before, places = _spelled(pieces)
        good, bad = (_form(predicate.verb, n) for n in (number, other))
        return Sentence(
            id=f"agreement-{hashlib.sha256(f'{before} {good}'.encode()).hexdigest()[:12]}",
            source="generated",
            construction=self.construction,
            before=before,
            good=good,
            bad=bad,
            after=draw.one(predicate.endings),
            number=number,
            subject=(places[0],),
            distractors=tuple(places[1:]),
            attractors=tuple(place for place, differs in zip(places[1:], self.plan, strict=True) if differs),
            n_attractors=sum(self.plan),
            n_distractors=len(self.plan),
        )


@dataclass(frozen=True)
class _The:
    """A noun of the sentence with its article."""

    noun: Noun
    number: Number

    @property
    def spelling(self) -> str:
        return self.noun.plural if self.number == "plural" else self.noun.singular


class _Draw:
    """The words of one sentence; no noun comes twice."""

    def __init__(self, generator: random.Random) -> None:
        self.random = generator
        self.nouns: set[Noun] = set()

    def one(self, of: Sequence[T]) -> T:
        return self.random.choice(of)

    def noun(self, kinds: Sequence[Kind]) -> Noun:
        while (noun := self.one(NOUNS[self.one(kinds)])) in self.nouns:
            pass
        self.nouns.add(noun)
        return noun


class _Deck(list[T]):
    """Cards in a random order, shuffled again each time round."""

    def __init__(self, cards: Collection[T], generator: random.Random) -> None:
        super().__init__()
        self.cards, self.random = list(cards), generator

    def next(self) -> T:
        if not self:
            self.extend(self.random.sample(self.cards, len(self.cards)))
        return self.pop()


def _between(
    construction: str, subject: Noun, number: Number, numbers: list[Number], draw: _Draw
) -> Iterator[_The | str]:
    """What stands between the subject and its verb, with a noun for each of `numbers`."""
    if not numbers:
        return
    if construction == "prepositional":
        yield from _phrases(subject, numbers, draw)
        return
    if construction.startswith("subject"):
        noun = draw.noun(KINDS)
        verb = draw.one(SUBJECT_CLAUSE_VERBS[noun.kind])
        yield draw.one(("that", "who"))
        yield verb.past if construction.endswith("past") else _form(verb, number)
        yield _The(noun, numbers[0])
        yield from _phrases(noun, numbers[1:], draw)
        return
    noun = draw.noun(("person",))
    if not construction.endswith("bare"):
        yield "that"
    yield _The(noun, numbers[0])
    yield from _phrases(noun, numbers[1:], draw)
    yield _form(draw.one(OBJECT_CLAUSE_VERBS[subject.kind]), numbers[0])


def _phrases(noun: Noun, numbers: list[Number], draw: _Draw) -> Iterator[_The | str]:
    """Prepositional phrases, each about the noun before it."""
    for number in numbers:
        following = draw.noun(_FOLLOWING[noun.kind])
        yield draw.one(PREPOSITIONS[noun.kind, following.kind])
        yield _The(following, number)
        noun = following


def _spelled(pieces: list[_The | str]) -> tuple[str, list[Region]]:
    """The text of the pieces, and where its nouns stand."""
    text, places = "", []
    for piece in pieces:
        if isinstance(piece, str):
            text += f" {piece}"
            continue
        text += " the " if text else "The "
        places.append((len(text), len(text) + len(piece.spelling)))
        text += piece.spelling
    return text, places


def _form(verb: Verb, number: Number) -> str:
    return verb.plural if number == "plural" else verb.singular


def _plans(construction: str, attractors: int) -> list[tuple[bool, ...]]:
    """For each noun between subject and verb whether its number differs from the subject's: all ways there are."""
    if construction == "simple":
        return [()] if attractors == 0 else []
    return [
        tuple(k in differing for k in range(nouns))
        for nouns in range(max(attractors, 1), MOST + 1)
        for differing in combinations(range(nouns), attractors)
    ]


def _attractors(given: int | Collection[int] | None) -> list[int]:
    wanted = range(MOST + 1) if given is None else {given} if isinstance(given, int) else set(given)
    if not wanted or not set(wanted) <= set(range(MOST + 1)):
        raise ApportionError(f"attractors={given!r} is not possible; give numbers from 0 to {MOST}.")
    return sorted(wanted)


def _constructions(given: str | Collection[str] | None) -> list[str]:
    wanted = set(CONSTRUCTIONS) if given is None else {given} if isinstance(given, str) else set(given)
    if not wanted or not wanted <= set(CONSTRUCTIONS):
        raise ApportionError(f"constructions={given!r} is not possible; there are {', '.join(CONSTRUCTIONS)}.")
    return [name for name in CONSTRUCTIONS if name in wanted]
