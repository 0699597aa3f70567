"""The words of generated questions: what may be said of people, things and buildings, and how it is asked back."""

from __future__ import annotations

from dataclasses import dataclass


def _each(words: str) -> list[str]:
    """The words of a line."""
    return words.split()


NAMES = _each(
    "Anna Tom Maria Peter Laura David Emma Paul Julia Mark Sarah Daniel Alice Robert Helen Simon Clara Martin Nina "
    "Victor Lucy Oscar Grace Henry Rachel George Diana Frank Karen Jack Monica Nathan Olivia Philip Ruth Samuel Linda "
    "Walter Susan Leo"
)
CITIES = _each(
    "Paris London Rome Berlin Madrid Vienna Oslo Dublin Athens Prague Moscow Boston Chicago Denver Seattle Toronto "
    "Sydney Tokyo Delhi Cairo Lima Milan Naples Geneva Hamburg Bergen Lisbon Warsaw Budapest Houston"
)
JOBS = _each(
    "teacher doctor lawyer nurse farmer baker painter writer singer dancer chef pilot driver carpenter gardener "
    "plumber librarian journalist photographer scientist soldier banker tailor sailor judge butcher barber miner "
    "mechanic translator"
)
PETS = _each("dog cat rabbit horse parrot turtle hamster goat snake pig duck sheep donkey mouse pony spider")
INSTRUMENTS = _each("piano violin guitar flute drums trumpet cello harp clarinet organ")
FOODS = _each("bread cheese rice soup fish pizza pasta fruit chicken salad beans cake")
COLOURS = _each("red blue green yellow white black brown grey orange purple pink silver")
MATERIALS = _each("wood glass steel stone paper leather cotton iron clay wool plastic copper")
DAYS = _each("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
THINGS = _each(
    "key book lamp box cup chair table bowl coat hat bag bottle clock ring mirror door basket knife pen ball bell boat"
)
BUILDINGS = _each(
    "museum library theatre bank school market bakery church station gallery hotel hospital restaurant garage"
)


@dataclass(frozen=True, kw_only=True)
class Relation:
    """What may be said of a subject; `{}` is where the value stands, or in a question what it is about.

    Args:
        name: As summaries call it.
        values: What may stand there.
        statement: What follows the subject.
        question: Asks for the value, given the subject.
        back: Asks for the subject, given the value; empty where the subject has no name to answer with.
    """

    name: str
    values: list[str]
    statement: str
    question: str
    back: str = ""


@dataclass(frozen=True, kw_only=True)
class Theme:
    """A kind of subject, and what may be said of it.

    Args:
        subjects: What the sentences are about.
        article: What stands before a subject where a sentence begins, with its space.
        relations: What may be said; any two fit into one sentence.
    """

    subjects: list[str]
    article: str
    relations: tuple[Relation, ...]


PEOPLE = Theme(
    subjects=NAMES,
    article="",
    relations=(
        Relation(
            name="city",
            values=CITIES,
            statement="lives in {}",
            question="Which city does {} live in?",
            back="Who lives in {}?",
        ),
        Relation(
            name="job",
            values=JOBS,
            statement="works as a {}",
            question="What is the job of {}?",
            back="Who works as a {}?",
        ),
        Relation(
            name="pet", values=PETS, statement="has a {}", question="Which animal does {} have?", back="Who has a {}?"
        ),
        Relation(
            name="instrument",
            values=INSTRUMENTS,
            statement="plays the {}",
            question="Which instrument does {} play?",
            back="Who plays the {}?",
        ),
        Relation(
            name="food",
            values=FOODS,
            statement="likes to eat {}",
            question="What does {} like to eat?",
            back="Who likes to eat {}?",
        ),
        Relation(
            name="car",
            values=COLOURS,
            statement="drives a {} car",
            question="What color is the car of {}?",
            back="Who drives a {} car?",
        ),
    ),
)
OBJECTS = Theme(
    subjects=THINGS,
    article="The ",
    relations=(
        Relation(name="color", values=COLOURS, statement="is {}", question="What color is the {}?"),
        Relation(name="material", values=MATERIALS, statement="is made of {}", question="What is the {} made of?"),
        Relation(name="owner", values=NAMES, statement="belongs to {}", question="Who does the {} belong to?"),
    ),
)
PLACES = Theme(
    subjects=BUILDINGS,
    article="The ",
    relations=(
        Relation(name="day", values=DAYS, statement="opens on {}", question="Which day does the {} open on?"),
        Relation(name="head", values=NAMES, statement="is run by {}", question="Who runs the {}?"),
        Relation(name="paint", values=COLOURS, statement="is painted {}", question="What color is the {} painted?"),
    ),
)
THEMES = (PEOPLE, OBJECTS, PLACES)
