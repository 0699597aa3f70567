"""Items about questions: what a language model writes behind a text, a question and the beginning of an answer."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from apportion.core import ApportionError
from apportion.engine import Engine
from apportion.evaluation._item import Item
from apportion.evaluation.questions._span_question import SpanQuestion
from apportion.models import Head, kind_of_model
from apportion.models.inputs import tokenizer_of
from apportion.targets import Span

_log = logging.getLogger(__name__)

#: How a question is put; the answer's opening and the answer follow, each after a space.
WORDING = "Read the text and answer the question.\nText: {context}\nQuestion: {question}\nAnswer:"


def items_of(
    questions: Iterable[SpanQuestion],
    engine: Engine,
    *,
    whole: bool = False,
    contrast: bool = False,
    wording: str = WORDING,
) -> Iterator[Item]:
    """What questions ask of a model: the logit of the answer's first token, behind the text and the question.

    The truth is where the answer stands in the text. Questions are left out where the answer's tokens cannot be told
    apart from the prompt's, where one of them is unknown to the tokenizer, or where another possible answer begins
    with the same token.

    Args:
        questions: Gone through once, as items are asked for.
        engine: Of a model that writes on.
        whole: Explain the log-probability of the whole answer, a `Span`, rather than its first token.
        contrast: Subtract the mean logit of the first tokens of the other possible answers. Without it the model is
            right where the answer's first token is the likeliest of all.
        wording: How the question is put; holds `{context}` and `{question}` once.

    Raises:
        ApportionError: The model does not write, it has no tokenizer, or an option does not fit; when the questions
            have been gone through, none of them fitted.
    """
    reader = _Reader(engine, wording)
    if whole and contrast:
        raise ApportionError("contrast=True compares first tokens and whole=True explains all; choose one of them.")
    return _fitting(questions, reader, whole, contrast)


class _DoesNotFitError(Exception):
    """Why a question cannot be put to a model."""


def _fitting(questions: Iterable[SpanQuestion], reader: _Reader, whole: bool, contrast: bool) -> Iterator[Item]:
    kept, left_out = 0, Counter[str]()
    for question in questions:
        try:
            item = _item(question, reader, whole, contrast)
        except _DoesNotFitError as reason:
            left_out[str(reason)] += 1
            continue
        kept += 1
        yield item
    why = "; ".join(f"{count} because {reason}" for reason, count in left_out.most_common())
    if left_out and not kept:
        raise ApportionError(f"none of {left_out.total()} questions fits this model's tokenizer: {why}.")
    _log.info("%d of %d questions fit the model; left out: %s", kept, kept + left_out.total(), why or "none")


def _item(question: SpanQuestion, reader: _Reader, whole: bool, contrast: bool) -> Item:
    prompt, start = reader.prompt(question)
    answer = reader.continuation(prompt, question.answer)
    others = [reader.continuation(prompt, other)[0] for other in question.others]
    if answer[0] in others:
        raise _DoesNotFitError("another answer begins with the same token")
    return Item(
        id=question.id,
        prompt=prompt,
        target=reader.span(question.answer, answer) if whole else reader.named(answer[0]),
        contrast=tuple(reader.named(other) for other in dict.fromkeys(others)) if contrast and others else None,
        truth=tuple((start + a, start + b) for a, b in question.regions),
        groups=dict(question.groups),
    )


class _Reader:
    """How a model is asked, and how its tokenizer spells answers."""

    def __init__(self, engine: Engine, wording: str) -> None:
        self.kind, self.tokenizer = kind_of_model(engine.model), tokenizer_of(engine.processor)
        if not self.kind.writes:
            raise ApportionError(
                f"{type(engine.model).__name__} writes no answer; questions need a causal language model or an "
                "encoder-decoder."
            )
        if self.tokenizer is None:
            raise ApportionError("questions are texts, which need a tokenizer: Explainer(model, tokenizer).")
        if any(wording.count(part) != 1 for part in ("{context}", "{question}")) or wording != wording.rstrip():
            raise ApportionError(
                f"the wording {wording!r} does not fit; it needs {{context}} and {{question}} once each, and no space "
                "at its end."
            )
        self.head = Head(engine.model, self.kind, engine.processor)
        self.before, _, self.after = wording.partition("{context}")

    def prompt(self, question: SpanQuestion) -> tuple[str, int]:
        """The prompt, and where in it the context begins."""
        before = self.before.replace("{question}", question.question)
        after = self.after.replace("{question}", question.question)
        opening = f" {question.opening}" if question.opening else ""
        return f"{before}{question.context}{after}{opening}", len(before)

    def continuation(self, prompt: str, answer: str) -> list[int]:
        """The answer's tokens behind the prompt; a decoder begins with them."""
        if self.kind.has_decoder:
            ids = self._ids(answer)
        else:
            read, both = self._ids(prompt), self._ids(f"{prompt} {answer}")
            if both[: len(read)] != read:
                raise _DoesNotFitError("the answer changes the tokens before it")
            ids = both[len(read) :]
        if not ids or getattr(self.tokenizer, "unk_token_id", None) in ids:
            raise _DoesNotFitError("the answer is not in the vocabulary")
        return ids

    def named(self, token: int) -> str | int:
        """A token as text where that names it and no other; else its id."""
        text = self.tokenizer.decode([token])
        try:
            return text if self.head.index(text, token + 1) == token else token
        except ApportionError:
            return token

    def span(self, answer: str, ids: list[int]) -> Span:
        """The whole answer, as text where that has these tokens."""
        text = answer if self.kind.has_decoder else f" {answer}"
        return Span(text if self._ids(text) == ids else tuple(ids))

    def _ids(self, text: str) -> list[int]:
        ids: Any = self.tokenizer.encode(text, add_special_tokens=False)
        return list(ids)
