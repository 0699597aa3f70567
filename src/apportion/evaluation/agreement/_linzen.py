"""Sentences of Wikipedia about agreement: the files of Linzen et al. 2016 and of Goldberg 2019."""

from __future__ import annotations

import csv
import logging
import os
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from apportion.core import ApportionError
from apportion.evaluation.agreement._lines import files_at, lines_of
from apportion.evaluation.agreement._lm_syneval import place_of
from apportion.evaluation.agreement._sentence import Number, Sentence, number_of

_log = logging.getLogger(__name__)

_NEEDED = (
    "orig_sentence",
    "pos_sentence",
    "subj",
    "verb",
    "subj_pos",
    "verb_pos",
    "subj_index",
    "verb_index",
    "n_intervening",
    "n_diff_intervening",
    "has_rel",
)
_MASK = "***mask***"
_NUMBERS: dict[tuple[str, str], Number] = {("NN", "VBZ"): "singular", ("NNS", "VBP"): "plural"}
_IRREGULAR = {"is": "are", "has": "have"}


def linzen(path: str | os.PathLike[str]) -> Iterator[Sentence]:
    """Sentences of Wikipedia in one of two tab-separated formats, told by the first line; `.gz` is read too.

    The files of Linzen et al. have a header; indices count words from 1, and nouns are the words tagged NN and NNS.
    They hold one form of each verb; the other is found by the rules of English spelling, and verbs that these do not
    cover are passed over. The construction is `"relative"` where the parser saw a relative clause between subject and
    verb, else `"natural"`.

    Goldberg's file (`lgd_dataset.tsv`) has no header and five columns: the number of attractors, the sentence, the
    sentence with `***mask***` in the verb's place, the form that agrees and the one that does not. It does not tell the
    subject, so its sentences serve accuracy and measures that need no truth.

    Args:
        path: The file.

    Raises:
        ApportionError: There is no such file, it is of another format, or a line is not of its format.

    Source:
        Linzen et al. 2016, doi:10.1162/tacl_a_00115; Goldberg 2019, arXiv:1901.05287.
    """
    (file,) = files_at(Path(path), "*.tsv")[:1]
    lines = lines_of([file])
    first = next(lines, (f"{file}:1", ""))
    columns = next(csv.reader([first[1]], delimiter="\t"), [])
    if set(_NEEDED) <= set(columns):
        return _of_linzen(lines, columns)
    if len(columns) == 5 and columns[0].isdigit() and _MASK in columns[2]:
        return _of_goldberg(chain([first], lines))
    missing = ", ".join(name for name in _NEEDED if name not in columns)
    raise ApportionError(
        f"{first[0]} is neither a header of Linzen et al. (it lacks {missing}) nor a line of Goldberg's five columns."
    )


def _of_linzen(lines: Iterator[tuple[str, str]], columns: list[str]) -> Iterator[Sentence]:
    passed_over = 0
    for where, line in lines:
        if not line.strip():
            continue
        fields = next(csv.reader([line], delimiter="\t"))
        if len(fields) != len(columns):
            raise ApportionError(f"{where} has {len(fields)} columns; the header has {len(columns)}.")
        sentence = _tagged(where, dict(zip(columns, fields, strict=True)))
        if sentence is None:
            passed_over += 1
        else:
            yield sentence
    _log.info("%d sentences were passed over: the other form of their verb is not known", passed_over)


def _tagged(where: str, row: dict[str, str]) -> Sentence | None:
    words, tags = row["orig_sentence"].split(), row["pos_sentence"].split()
    names = ("subj_index", "verb_index", "n_intervening", "n_diff_intervening")
    for name in names:
        if not row[name].isdigit():
            raise ApportionError(f"{where}: {name} is {row[name]!r}; it must be a number.")
    subject, verb, between, differing = (int(row[name]) for name in names)
    subject, verb = subject - 1, verb - 1
    if not 0 <= subject < verb < len(words) or (words[subject], words[verb]) != (row["subj"], row["verb"]):
        raise ApportionError(
            f"{where}: the words at subj_index and verb_index of orig_sentence are not {row['subj']!r} and "
            f"{row['verb']!r}."
        )
    if len(tags) != len(words):
        raise ApportionError(f"{where}: orig_sentence has {len(words)} words and pos_sentence {len(tags)} tags.")
    number = _NUMBERS.get((row["subj_pos"], row["verb_pos"]))
    if number is None:
        raise ApportionError(f"{where}: a subject {row['subj_pos']} and a verb {row['verb_pos']} do not agree.")
    other = other_form(row["verb"], number)
    if other is None:
        return None
    nouns = [k for k in range(subject + 1, verb) if tags[k] in ("NN", "NNS")]
    return Sentence(
        id=f"linzen-{where.rpartition(':')[2]}",
        source="linzen",
        construction="relative" if row["has_rel"] == "True" else "natural",
        before=" ".join(words[:verb]),
        good=row["verb"],
        bad=other,
        after="".join(f" {word}" for word in words[verb + 1 :]),
        number=number,
        subject=(place_of(words, subject),),
        distractors=tuple(place_of(words, k) for k in nouns),
        attractors=tuple(place_of(words, k) for k in nouns if tags[k] != row["subj_pos"]),
        n_attractors=differing,
        n_distractors=between,
    )


def _of_goldberg(lines: Iterator[tuple[str, str]]) -> Iterator[Sentence]:
    passed_over = 0
    for where, line in lines:
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) != 5 or not fields[0].isdigit() or fields[2].count(_MASK) != 1:
            raise ApportionError(f"{where} is not: attractors, sentence, sentence with {_MASK}, good form, bad form.")
        before, _, after = fields[2].partition(_MASK)
        good, bad = fields[3].strip(), fields[4].strip()
        number = number_of(good, bad)
        if number is None or not before.strip():
            passed_over += 1
            continue
        yield Sentence(
            id=f"linzen-{where.rpartition(':')[2]}",
            source="linzen",
            construction="natural",
            before=before.rstrip(),
            good=good,
            bad=bad,
            after=after.rstrip(),
            number=number,
            n_attractors=int(fields[0]),
        )
    _log.info("%d sentences were passed over: their verb's forms do not tell the number", passed_over)


def other_form(verb: str, number: Number) -> str | None:
    """A verb of the present in the other number, by the rules of spelling; None for what they do not cover.

    Args:
        verb: In lower case.
        number: The number that `verb` agrees with.
    """
    if not re.fullmatch("[a-z]{2,}", verb):
        return None
    if number == "singular":
        return _IRREGULAR.get(verb) or _plural(verb)
    return next((one for one, many in _IRREGULAR.items() if many == verb), None) or _singular(verb)


def _singular(verb: str) -> str:
    if re.search("(s|x|z|ch|sh|o)$", verb):
        return f"{verb}es"
    return f"{verb[:-1]}ies" if re.search("[^aeiou]y$", verb) else f"{verb}s"


def _plural(verb: str) -> str | None:
    if re.search("[^aeiou]ies$", verb):
        # "dies" and "lies" keep their e; "tries" and "flies" had a y.
        return verb[:-1] if len(verb) == 4 else f"{verb[:-3]}y"
    if re.search("(ss|x|zz|ch|sh|o)es$", verb):
        return verb[:-2]
    return verb[:-1] if re.search("[^s]s$", verb) else None
