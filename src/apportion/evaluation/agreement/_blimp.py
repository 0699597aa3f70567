"""BLiMP's sentences about agreement (Warstadt et al. 2020), with the subject found by what each paradigm is made of."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apportion.core import ApportionError
from apportion.evaluation._item import Region
from apportion.evaluation.agreement._lines import files_at, records_of
from apportion.evaluation.agreement._sentence import Sentence, number_of

_log = logging.getLogger(__name__)

# What parts the subject from the noun that distracts from it; None where there is no such noun.
_PARTED: dict[str, re.Pattern[str] | None] = {
    "regular_plural_subject_verb_agreement_1": None,
    "irregular_plural_subject_verb_agreement_1": None,
    "distractor_agreement_relational_noun": re.compile(r" (?:of|about) "),
    "distractor_agreement_relative_clause": re.compile(r" (?:who|that|which) "),
}
_TWO_PREFIXES = ("regular_plural_subject_verb_agreement_2", "irregular_plural_subject_verb_agreement_2")
_DETERMINERS = re.compile(
    r"(?:(?:a lot of|an?|the|this|that|these|those|some|many|most|all|every|each|no)\s+)+", re.IGNORECASE
)
_FIELDS = {
    "UID": str,
    "pairID": str,
    "sentence_good": str,
    "one_prefix_prefix": str,
    "one_prefix_word_good": str,
    "one_prefix_word_bad": str,
}


def blimp(path: str | os.PathLike[str]) -> Iterator[Sentence]:
    """BLiMP's sentences whose two forms of a verb follow one beginning; the construction is the paradigm's name.

    The subject is the last word of its noun phrase; of a person's name that has several words, all of them. The
    paradigms that end in `_2` set two subjects beside one verb, so they have no two forms to tell apart. Pairs are
    passed over whose forms do not differ in number alone.

    Args:
        path: A paradigm's file, or a folder of such files, of which those about agreement are read.

    Raises:
        ApportionError: There is no such file, it holds another paradigm, or a line is not in BLiMP's format.

    Source:
        Warstadt et al. 2020, doi:10.1162/tacl_a_00321.
    """
    given = Path(path)
    files = files_at(given, "*.jsonl")
    if given.is_dir():
        files = [file for file in files if file.stem in _PARTED]
        if not files:
            raise ApportionError(f"{given} holds none of BLiMP's {', '.join(f'{name}.jsonl' for name in _PARTED)}.")
    return _sentences(files)


def _sentences(files: list[Path]) -> Iterator[Sentence]:
    passed_over = 0
    for where, record in records_of(files, {"UID": str}):
        _check(where, record)
        sentence = _sentence(where, record)
        if sentence is None:
            passed_over += 1
        else:
            yield sentence
    _log.info("%d pairs of BLiMP were passed over: their forms do not differ in number alone", passed_over)


def _check(where: str, record: dict[str, Any]) -> None:
    if record["UID"] in _TWO_PREFIXES:
        raise ApportionError(
            f"{where}: the paradigm {record['UID']!r} sets two subjects beside one verb; use the one that ends in _1."
        )
    if record["UID"] not in _PARTED:
        raise ApportionError(f"{where}: {record['UID']!r} is not one of {', '.join(_PARTED)}.")
    for field, kind in _FIELDS.items():
        if not isinstance(record.get(field), kind):
            raise ApportionError(f"{where}: the field {field!r} is missing or no text.")


def _sentence(where: str, record: dict[str, Any]) -> Sentence | None:
    before = record["one_prefix_prefix"]
    good, bad = record["one_prefix_word_good"], record["one_prefix_word_bad"]
    if not record["sentence_good"].startswith(f"{before} {good}"):
        raise ApportionError(f"{where}: 'sentence_good' does not begin with the prefix and the good form.")
    number, nouns = number_of(good, bad), _nouns(before, _PARTED[record["UID"]])
    if number is None or nouns is None:
        return None
    subject, others = nouns[0], tuple(nouns[1:])
    return Sentence(
        id=f"blimp-{record['UID']}-{record['pairID']}",
        source="blimp",
        construction=record["UID"],
        before=before,
        good=good,
        bad=bad,
        after=record["sentence_good"][len(before) + 1 + len(good) :],
        number=number,
        subject=(subject,),
        # The paradigms about distraction give the other noun the other number.
        distractors=others,
        attractors=others,
        n_attractors=len(others),
        n_distractors=len(others),
    )


def _nouns(before: str, parted: re.Pattern[str] | None) -> list[Region] | None:
    """The subject's noun and, where a paradigm has one, the other; None where they cannot be told."""
    if parted is None:
        return _found([_head(before, 0, len(before))])
    found = parted.search(before, _after_determiners(before, 0))
    if found is None:
        return None
    return _found([_head(before, 0, found.start()), _head(before, found.end(), len(before))])


def _found(nouns: list[Region | None]) -> list[Region] | None:
    return None if None in nouns else [noun for noun in nouns if noun is not None]


def _head(text: str, start: int, end: int) -> Region | None:
    """Where the noun of a phrase stands: its last word, or a name as a whole."""
    begin = _after_determiners(text, start)
    words = text[begin:end].split(" ")
    if not all(words) or begin >= end:
        return None
    if begin == start and all(word[0].isupper() for word in words):
        return begin, end
    return end - len(words[-1]), end


def _after_determiners(text: str, start: int) -> int:
    found = _DETERMINERS.match(text, start)
    return found.end() if found else start
