"""LM_syneval's sentences about agreement (Marvin and Linzen 2018), from a file with one JSON object a line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apportion.core import ApportionError
from apportion.evaluation._item import Region
from apportion.evaluation.agreement._lines import files_at, records_of
from apportion.evaluation.agreement._sentence import Number, Sentence

_FIELDS = {
    "template": str,
    "words": list,
    "verb_index": int,
    "good": str,
    "bad": str,
    "subject_head": int,
    "subject_number": str,
    "distractors": list,
    "n_attractors": int,
}
_NUMBERS: dict[str, Number] = {"sing": "singular", "plur": "plural"}


def lm_syneval(path: str | os.PathLike[str]) -> Iterator[Sentence]:
    """LM_syneval's sentences; the construction is the template's name.

    Each object has the sentence's `words`, the `verb_index` among them, the verb's forms `good` and `bad`, the indices
    `subject_head` and `distractors` of nouns, `subject_number` ("sing" or "plur"), `n_attractors` and the `template`.
    The subject is its head noun: "drivers" of "taxi drivers". The words stay in lower case and without a full stop, as
    they were published.

    Args:
        path: The file, or its folder.

    Raises:
        ApportionError: There is no such file, or a line is not of this form.

    Source:
        Marvin and Linzen 2018, doi:10.18653/v1/D18-1151.
    """
    return _sentences(files_at(Path(path), "*.jsonl"))


def _sentences(files: list[Path]) -> Iterator[Sentence]:
    for count, (where, record) in enumerate(records_of(files, _FIELDS)):
        yield _sentence(where, count, record)


def _sentence(where: str, count: int, record: dict[str, Any]) -> Sentence:
    words, verb, head = record["words"], record["verb_index"], record["subject_head"]
    nouns = [head, *record["distractors"]]
    if not all(isinstance(word, str) for word in words) or not 0 < verb < len(words) or words[verb] != record["good"]:
        raise ApportionError(f"{where}: the word at verb_index={verb} is not the good form {record['good']!r}.")
    if not all(isinstance(noun, int) and 0 <= noun < verb for noun in nouns):
        raise ApportionError(f"{where}: subject_head and distractors are {nouns}; they must stand before {verb}.")
    if record["subject_number"] not in _NUMBERS:
        raise ApportionError(f"{where}: subject_number is {record['subject_number']!r}; it must be 'sing' or 'plur'.")
    subject, *others = (place_of(words, noun) for noun in nouns)
    if record["n_attractors"] not in (0, len(others)):
        raise ApportionError(
            f"{where}: n_attractors={record['n_attractors']} of {len(others)}: which ones is not told."
        )
    return Sentence(
        id=f"lm-syneval-{count}",
        source="lm-syneval",
        construction=record["template"],
        before=" ".join(words[:verb]),
        good=record["good"],
        bad=record["bad"],
        after="".join(f" {word}" for word in words[verb + 1 :]),
        number=_NUMBERS[record["subject_number"]],
        subject=(subject,),
        distractors=tuple(others),
        attractors=tuple(others) if record["n_attractors"] else (),
        n_attractors=record["n_attractors"],
        n_distractors=len(others),
    )


def place_of(words: list[str], index: int) -> Region:
    """Where a word stands in the words' text, with one space between them."""
    start = sum(len(word) + 1 for word in words[:index])
    return start, start + len(words[index])
