"""The generator's words: nouns of three kinds, what may link them, and verbs that only one reading fits.

Words are common, so that most tokenizers have them as one token. Verbs are left out whose wrong form could be right in
another reading: past tenses ("read"), nouns that the singular may compound with ("the school plays"), and, in subject
relatives, verbs that a clause may follow ("the man who knows the guards are …").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["person", "thing", "place"]


@dataclass(frozen=True)
class Noun:
    """A noun in both numbers."""

    singular: str
    plural: str
    kind: Kind


@dataclass(frozen=True)
class Verb:
    """A verb's two forms of the present or, for "be", of the past; its past where a clause uses it."""

    singular: str
    plural: str
    past: str = ""


@dataclass(frozen=True)
class Predicate:
    """A main verb, with what may follow it; nothing of it tells the subject's number."""

    verb: Verb
    family: Literal["is", "was", "has", "lexical"]
    endings: tuple[str, ...]


def _nouns(kind: Kind, regular: str, irregular: str) -> tuple[Noun, ...]:
    pairs = [(word, word + "s") for word in regular.split()] + [tuple(pair.split("/")) for pair in irregular.split()]
    return tuple(Noun(singular, plural, kind) for singular, plural in pairs)


def _verbs(forms: str) -> tuple[Verb, ...]:
    return tuple(Verb(*entry.split("/")) for entry in forms.split())


def _predicates(family: Literal["is", "was", "has", "lexical"], entries: dict[str, str]) -> tuple[Predicate, ...]:
    return tuple(
        Predicate(Verb(*forms.split("/")), family, tuple(f" {ending}." for ending in endings.split("; ")))
        for forms, endings in entries.items()
    )


NOUNS: dict[Kind, tuple[Noun, ...]] = {
    "person": _nouns(
        "person",
        "boy girl friend teacher student doctor nurse lawyer judge farmer driver writer author artist actor singer "
        "player worker officer soldier guard king queen manager leader director president minister senator scientist "
        "engineer professor parent mother father brother sister son daughter neighbor customer visitor guest painter "
        "dancer pilot captain sailor hunter priest reporter editor owner poet",
        "man/men woman/women child/children wife/wives lady/ladies boss/bosses policeman/policemen",
    ),
    "thing": _nouns(
        "thing",
        "book letter picture painting photo key bag bottle cup table chair bed car truck bike boat computer phone "
        "camera clock lamp map toy ball hat coat ring card coin sign piano guitar mirror basket flower statue machine "
        "ticket gift newspaper magazine",
        "box/boxes knife/knives dish/dishes bus/buses shelf/shelves",
    ),
    "place": _nouns(
        "place",
        "house school shop store hotel hospital museum office bank tower garden park farm castle theater restaurant "
        "station building temple market prison palace college",
        "church/churches library/libraries factory/factories university/universities",
    ),
}

_BESIDE = ("near", "behind", "beside", "next to")
#: What may link a noun of one kind to one of another; no place is told by a thing ("the school near the cup").
PREPOSITIONS: dict[tuple[Kind, Kind], tuple[str, ...]] = {
    ("person", "person"): (*_BESIDE, "with"),
    ("person", "thing"): (*_BESIDE, "with"),
    ("person", "place"): (*_BESIDE, "outside"),
    ("thing", "person"): (*_BESIDE, "of", "from", "for"),
    ("thing", "thing"): (*_BESIDE, "under"),
    ("thing", "place"): (*_BESIDE, "outside", "from"),
    ("place", "person"): (*_BESIDE, "of"),
    ("place", "place"): _BESIDE,
}

#: What a person does to a noun of each kind, in a clause about the person: "the author that admires the guards".
SUBJECT_CLAUSE_VERBS: dict[Kind, tuple[Verb, ...]] = {
    "person": _verbs(
        "admires/admire/admired respects/respect/respected visits/visit/visited follows/follow/followed "
        "praises/praise/praised avoids/avoid/avoided supports/support/supported attacks/attack/attacked "
        "entertains/entertain/entertained"
    ),
    "thing": _verbs(
        "owns/own/owned buys/buy/bought sells/sell/sold uses/use/used cleans/clean/cleaned moves/move/moved"
    ),
    "place": _verbs(
        "visits/visit/visited owns/own/owned avoids/avoid/avoided cleans/clean/cleaned admires/admire/admired"
    ),
}
#: What persons do to a noun of each kind, in a clause about the noun: "the author that the guards know".
OBJECT_CLAUSE_VERBS: dict[Kind, tuple[Verb, ...]] = {
    "person": _verbs(
        "knows/know likes/like loves/love admires/admire respects/respect visits/visit follows/follow avoids/avoid "
        "supports/support hates/hate"
    ),
    "thing": _verbs("likes/like loves/love wants/want owns/own buys/buy sells/sell uses/use hates/hate"),
    "place": _verbs("knows/know likes/like loves/love visits/visit owns/own avoids/avoid admires/admire hates/hate"),
}

_PERSONS = (
    *_predicates("is", {"is/are": "tired; very kind; old; happy today; in the kitchen; ready to leave; late again"}),
    *_predicates("was", {"was/were": "tired; very kind; late yesterday; happy; in the kitchen; too slow; not there"}),
    *_predicates("has", {"has/have": "been very helpful; arrived early; left the room; a good idea; lost the way"}),
    *_predicates(
        "lexical",
        {
            "does/do": "not like coffee; not know the answer",
            "knows/know": "the answer; the story",
            "likes/like": "music; long walks",
            "wants/want": "to go home; to sleep",
            "sings/sing": "every morning; very well",
            "speaks/speak": "very softly; too fast",
            "writes/write": "every day; very well",
            "eats/eat": "too fast; at home",
            "thinks/think": "about the future; very fast",
            "goes/go": "home early; to the beach",
            "comes/come": "from the north; home late",
            "seems/seem": "happy; very tired",
            "agrees/agree": "with the plan",
            "remembers/remember": "the song; the old days",
            "walks/walk": "home alone; very slowly",
            "learns/learn": "very fast",
            "believes/believe": "the story",
            "says/say": "very little",
            "gets/get": "angry easily",
            "enjoys/enjoy": "the music",
            "understands/understand": "the problem",
        },
    ),
)
_OTHERS = (
    *_predicates("is", {"is/are": "old; new; very large; dirty; famous; not for sale"}),
    *_predicates("was", {"was/were": "old; new; very dirty; famous; not for sale; hard to find"}),
    *_predicates("has", {"has/have": "been sold; been cleaned; become famous; a strange smell; lost some value"}),
    *_predicates(
        "lexical",
        {
            "does/do": "not look new; not belong here",
            "seems/seem": "old; very dirty",
            "appears/appear": "in the film; in the story",
            "belongs/belong": "to the family",
            "becomes/become": "more popular every year",
            "requires/require": "some attention",
            "exists/exist": "only in the film",
            "brings/bring": "good luck",
            "gives/give": "a good impression",
            "makes/make": "a strong impression",
            "attracts/attract": "a lot of attention",
        },
    ),
)
PREDICATES: dict[Kind, tuple[Predicate, ...]] = {"person": _PERSONS, "thing": _OTHERS, "place": _OTHERS}
