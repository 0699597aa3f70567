"""SQuAD's file format: paragraphs, questions about them, and answers that are parts of them."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apportion.core import ApportionError
from apportion.evaluation._item import Region
from apportion.evaluation.questions._span_question import SpanQuestion

_log = logging.getLogger(__name__)


def squad(path: str | os.PathLike[str]) -> Iterator[SpanQuestion]:
    """The questions of a file in SQuAD's format, version 1 or 2.

    Every place that an annotator chose is a region; the first answer is the one that is asked for. Left out, and
    counted in the log, are questions that have no answer (version 2) and those none of whose answers stands where it
    is said to. A question's group is its article's `title`, where there is one.

    Args:
        path: The JSON file; it is held in memory while the questions are gone through.

    Raises:
        ApportionError: The file is not there, is not JSON or is not in this format, or no question of it is left.

    Source:
        Rajpurkar et al. 2016, arXiv:1606.05250; version 2: Rajpurkar et al. 2018, arXiv:1806.03822.
    """
    path = Path(path)
    try:
        articles = json.loads(path.read_bytes())["data"]
        if not isinstance(articles, list):
            raise TypeError
    except OSError as error:
        raise ApportionError(f"cannot read {str(path)!r}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ApportionError(f"{str(path)!r} is not in SQuAD's format: no JSON object with a list 'data'.") from error
    return _questions(path, articles)


def _questions(path: Path, articles: list[Any]) -> Iterator[SpanQuestion]:
    kept, left_out = 0, Counter[str]()
    for a, article in enumerate(articles):
        where = f"data[{a}]"
        try:
            for p, paragraph in enumerate(article["paragraphs"]):
                for q, asked in enumerate(paragraph["qas"]):
                    where = f"data[{a}].paragraphs[{p}].qas[{q}]"
                    question = _question(article, paragraph["context"], asked, left_out)
                    if question is not None:
                        kept += 1
                        yield question
        except (KeyError, TypeError, AttributeError) as error:
            raise ApportionError(f"{str(path)!r} is not in SQuAD's format at {where}: {error}.") from error
    why = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())
    if not kept:
        raise ApportionError(f"no question of {str(path)!r} can be asked: {why or 'it holds none'}.")
    _log.info("%d questions of %s; left out: %s", kept, path, why or "none")


def _question(article: Any, context: str, asked: Any, left_out: Counter[str]) -> SpanQuestion | None:
    if asked.get("is_impossible", False) or not asked["answers"]:
        left_out["without an answer"] += 1
        return None
    places = [_region(context, answer["text"], answer["answer_start"]) for answer in asked["answers"]]
    regions = tuple(dict.fromkeys(place for place in places if place is not None))
    if not regions:
        left_out["whose answer does not stand where it is said to"] += 1
        return None
    return SpanQuestion(
        id=str(asked["id"]),
        context=context,
        question=asked["question"].strip(),
        regions=regions,
        groups={"title": article["title"]} if "title" in article else {},
    )


def _region(context: str, text: str, start: int) -> Region | None:
    """Where an answer stands, without the white space around it; None where the context has something else there."""
    if start < 0 or not text.strip() or context[start : start + len(text)] != text:
        return None
    start += len(text) - len(text.lstrip())
    return start, start + len(text.strip())
