"""Items about agreement: which of the verb's two forms a model prefers, where its tokenizer has both as one token."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from apportion.core import ApportionError
from apportion.engine import Engine
from apportion.evaluation._item import Item
from apportion.evaluation.agreement._sentence import Sentence
from apportion.models import Head, kind_of_model
from apportion.models.inputs import tokenizer_of

_log = logging.getLogger(__name__)


def items_of(sentences: Iterable[Sentence], engine: Engine) -> FittingItems:
    """What sentences ask of a model: the logit of the form that agrees minus that of the other.

    A causal model is given the text before the verb, a masked one the whole sentence with its mask token in the verb's
    place. Sentences are left out unless each form, in its place, is one token and leaves the other tokens as they are.
    The truth is the subject's head noun; the groups are attractors, construction, number and source.

    Args:
        sentences: Gone through once, as items are asked for.
        engine: Of the model.

    Raises:
        ApportionError: The model is neither a causal nor a masked language model, or has no tokenizer or mask token.
    """
    return FittingItems(sentences, engine)


class FittingItems(Iterator[Item]):
    """The items of those sentences that fit a model; see `items_of`.

    Attributes:
        kept: How many sentences fitted so far.
        left_out: How many did not, by reason.
    """

    def __init__(self, sentences: Iterable[Sentence], engine: Engine) -> None:
        self._sentences = iter(sentences)
        self._reader = _reader(engine)
        self.kept: int = 0
        self.left_out: Counter[str] = Counter()
        self._reported = False

    def __next__(self) -> Item:
        for sentence in self._sentences:
            try:
                prompt, tokens = self._reader.asked(sentence)
            except _DoesNotFitError as reason:
                self.left_out[str(reason)] += 1
                continue
            self.kept += 1
            return Item(
                id=sentence.id,
                prompt=prompt,
                target=self._reader.named(sentence.good, tokens[0]),
                contrast=self._reader.named(sentence.bad, tokens[1]),
                truth=sentence.subject,
                groups={
                    "attractors": sentence.n_attractors,
                    "construction": sentence.construction,
                    "number": sentence.number,
                    "source": sentence.source,
                },
            )
        self._report()
        raise StopIteration

    def _report(self) -> None:
        if self._reported:
            return
        self._reported = True
        out = self.left_out.total()
        why = "; ".join(f"{count} because {reason}" for reason, count in self.left_out.most_common())
        _log.info("%d of %d sentences fit the model%s", self.kept, self.kept + out, f"; left out: {why}" if out else "")


class _DoesNotFitError(Exception):
    """Why a sentence cannot be put to a model."""


class _Reader:
    """How a causal model is asked: it reads the text before the verb."""

    def __init__(self, head: Head, tokenizer: Any) -> None:
        self.head, self.tokenizer = head, tokenizer
        self.size = len(tokenizer)

    def asked(self, sentence: Sentence) -> tuple[str, tuple[int, int]]:
        """The prompt, and the tokens of the form that agrees and of the one that does not."""
        read = self.ids(sentence.before)
        good, bad = (self._next(read, self.ids(f"{sentence.before} {form}")) for form in (sentence.good, sentence.bad))
        return sentence.before, self.told_apart(good, bad)

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text)["input_ids"])

    def told_apart(self, good: int, bad: int) -> tuple[int, int]:
        """Both tokens, where they differ and are known."""
        if getattr(self.tokenizer, "unk_token_id", None) in (good, bad) or good == bad:
            raise _DoesNotFitError("a form is not in the vocabulary")
        return good, bad

    def named(self, form: str, token: int) -> str | int:
        """The form with its space as `explain` takes a target; the token's id where it would take another."""
        text = f" {form}"
        try:
            return text if self.head.index(text, self.size) == token else token
        except ApportionError:
            return token

    @staticmethod
    def _next(read: list[int], with_form: list[int]) -> int:
        if with_form[: len(read)] != read:
            raise _DoesNotFitError("the verb changes the tokens before it")
        if len(with_form) != len(read) + 1:
            raise _DoesNotFitError("a form is not one token")
        return with_form[-1]


class _MaskedReader(_Reader):
    """How a masked model is asked: it reads the sentence with its mask token in the verb's place."""

    def asked(self, sentence: Sentence) -> tuple[str, tuple[int, int]]:
        prompt = f"{sentence.before} {self.tokenizer.mask_token}{sentence.after}"
        read = self.ids(prompt)
        if read.count(self.tokenizer.mask_token_id) != 1:
            raise _DoesNotFitError("the sentence holds a mask token of its own")
        place = read.index(self.tokenizer.mask_token_id)
        texts = (f"{sentence.before} {form}{sentence.after}" for form in (sentence.good, sentence.bad))
        good, bad = (self._there(read, self.ids(text), place) for text in texts)
        return prompt, self.told_apart(good, bad)

    @staticmethod
    def _there(read: list[int], with_form: list[int], place: int) -> int:
        if len(with_form) != len(read):
            raise _DoesNotFitError("a form is not one token")
        if with_form[:place] != read[:place] or with_form[place + 1 :] != read[place + 1 :]:
            raise _DoesNotFitError("the verb changes the tokens beside it")
        return with_form[place]


def _reader(engine: Engine) -> _Reader:
    kind, tokenizer = kind_of_model(engine.model), tokenizer_of(engine.processor)
    if not (kind.looks_back or kind.fills_masks):
        raise ApportionError(
            f"{type(engine.model).__name__} predicts no verb; agreement needs a causal or masked language model."
        )
    if tokenizer is None:
        raise ApportionError("agreement is about words, which need a tokenizer: Explainer(model, tokenizer).")
    head = Head(engine.model, kind, engine.processor)
    if kind.looks_back:
        return _Reader(head, tokenizer)
    if getattr(tokenizer, "mask_token_id", None) is None:
        raise ApportionError("the masked model's tokenizer has no mask token to put in the verb's place; set one.")
    return _MaskedReader(head, tokenizer)
