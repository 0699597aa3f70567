"""Questions about a picture of shapes, with their answers and the thing that each is about."""

from collections.abc import Iterator
from dataclasses import dataclass

from numpy.random import Generator

from benchmarks.shapes._pictures import Picture, Thing
from benchmarks.shapes._scenes import INVERSE, RELATIONS

KINDS = ("colour", "shape", "what", "where", "count")


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question with one true answer of one or two words.

    `kind` is one of `KINDS`. `thing` is what the answer speaks of, so its mask is where the answer is to be seen; None
    where the answer is about the whole picture ("how many things ?", or "nothing").
    """

    kind: str
    text: str
    answer: str
    thing: Thing | None


def questions(picture: Picture) -> Iterator[Question]:
    """Every question that the picture answers in one way only, e.g. no "what colour is the circle ?" with two circles.

    colour: "what colour is the circle ?", "red". shape: "what shape is red ?", "circle".
    what: "what is above the blue square ?", "red circle", or "nothing" if the other thing lies elsewhere.
    where: "where is the red circle ?", "above", as seen from the other thing. count: "how many things ?", "two".
    """
    for thing in picture.things:
        if sum(other.shape == thing.shape for other in picture.things) == 1:
            text = f"what colour is the {thing.shape} ?"
            yield Question(kind="colour", text=text, answer=thing.colour, thing=thing)
        if sum(other.colour == thing.colour for other in picture.things) == 1:
            yield Question(kind="shape", text=f"what shape is {thing.colour} ?", answer=thing.shape, thing=thing)
    if picture.relation is not None:
        yield from _about_places(picture, picture.relation)
    yield Question(kind="count", text="how many things ?", answer=("one", "two")[len(picture.things) - 1], thing=None)


def random_question(picture: Picture, random: Generator) -> Question:
    """One of the picture's questions, each kind being equally likely; every fourth "what" is answered by "nothing"."""
    asked = list(questions(picture))
    kinds = [kind for kind in KINDS if any(question.kind == kind for question in asked)]
    kind = kinds[random.integers(len(kinds))]
    about_nothing = kind == "what" and random.random() < 0.25
    fitting = [q for q in asked if q.kind == kind and (q.answer == "nothing") == about_nothing]
    return fitting[random.integers(len(fitting))]


def _about_places(picture: Picture, relation: str) -> Iterator[Question]:
    first, second = picture.things
    for thing, other, place in ((first, second, relation), (second, first, INVERSE[relation])):
        where = place.removesuffix(" of")
        yield Question(kind="where", text=f"where is the {thing.colour} {thing.shape} ?", answer=where, thing=thing)
        for asked in RELATIONS:
            text = f"what is {asked} the {other.colour} {other.shape} ?"
            if asked == place:
                yield Question(kind="what", text=text, answer=f"{thing.colour} {thing.shape}", thing=thing)
            else:
                yield Question(kind="what", text=text, answer="nothing", thing=None)
