"""Generated questions: a few facts of one kind, and a question that one of them answers."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence

from apportion.core import ApportionError
from apportion.evaluation._item import Region
from apportion.evaluation.questions._span_question import SpanQuestion
from apportion.evaluation.questions._words import THEMES, Relation, Theme

#: How many facts a context may hold: no list of words is shorter.
MOST_FACTS = 6


def questions(
    *, seed: int = 0, facts: int | Sequence[int] = tuple(range(1, MOST_FACTS + 1)), count: int = 10_000
) -> Iterator[SpanQuestion]:
    """Questions about a few facts, with the answer's exact place; no two are the same.

    A context is a sentence each about different people, things or buildings, and says the same one or two things of
    each: "Anna lives in Oslo and has a dog. Tom lives in Paris and has a cat." The question asks for what is said of
    one ("Which city does Anna live in?"), or of whom it is said ("Who lives in Oslo?"). Every other sentence offers
    another answer of the same kind, so neither the kind nor the place gives the answer away. The words are our own.

    A question's groups are `facts` (how many sentences), `place` (which of them answers, from 1), `relation`,
    `relations` (how many things are said of each), and `asks` (`"value"` or `"subject"`).

    Args:
        seed: Of what is drawn.
        facts: How many sentences a context has, from 1 to 6; of several numbers each question draws one.
        count: How many questions are made.

    Raises:
        ApportionError: `facts` or `count` is out of range.
    """
    numbers = [facts] if isinstance(facts, int) else list(facts)
    if not numbers or not all(isinstance(n, int) and 1 <= n <= MOST_FACTS for n in numbers):
        raise ApportionError(f"facts={facts!r} does not fit; give a number from 1 to {MOST_FACTS}, or several.")
    if count < 1:
        raise ApportionError(f"count={count} does not fit; give 1 or more.")
    return _distinct(random.Random(seed), numbers, count)


def _distinct(draw: random.Random, numbers: Sequence[int], count: int) -> Iterator[SpanQuestion]:
    seen: set[str] = set()
    while len(seen) < count:
        question = _drawn(draw, draw.choice(numbers))
        if question.id not in seen:
            seen.add(question.id)
            yield question


def _drawn(draw: random.Random, facts: int) -> SpanQuestion:
    theme = draw.choice(THEMES)
    relations = draw.sample(theme.relations, draw.choice((1, 2)))
    subjects = draw.sample(theme.subjects, facts)
    values = {relation.name: draw.sample(relation.values, facts) for relation in relations}
    asked, place = draw.choice(relations), draw.randrange(facts)
    asks_back = bool(asked.back) and draw.random() < 0.5

    context, region = "", (0, 0)
    for k, subject in enumerate(subjects):
        sentence, regions = _sentence(theme, subject, [(r, values[r.name][k]) for r in relations])
        if k:
            context += " "
        if k == place:
            start, end = regions["subject" if asks_back else asked.name]
            region = len(context) + start, len(context) + end
        context += sentence

    if asks_back:
        candidates, opening = subjects, ""
        question = asked.back.format(values[asked.name][place])
    else:
        candidates, opening = values[asked.name], _opening(theme, subjects[place], asked)
        question = asked.question.format(subjects[place])
    return SpanQuestion(
        id=_id(context, question),
        context=context,
        question=question,
        regions=(region,),
        opening=opening,
        others=tuple(other for k, other in enumerate(candidates) if k != place),
        groups={
            "facts": facts,
            "place": place + 1,
            "relation": asked.name,
            "relations": len(relations),
            "asks": "subject" if asks_back else "value",
        },
    )


def _opening(theme: Theme, subject: str, relation: Relation) -> str:
    """The sentence up to the relation's value."""
    return f"{theme.article}{subject} {relation.statement.partition('{}')[0].rstrip()}"


def _id(context: str, question: str) -> str:
    """A name that stands for the content, so that a run taken up with other options takes no question for another."""
    return "qa-" + hashlib.sha256(f"{context}\n{question}".encode()).hexdigest()[:12]


def _sentence(theme: Theme, subject: str, said: Sequence[tuple[Relation, str]]) -> tuple[str, dict[str, Region]]:
    """A sentence, and where in it the subject and each relation's value stand."""
    sentence = theme.article
    regions = {"subject": (len(sentence), len(sentence) + len(subject))}
    sentence += subject
    for k, (relation, value) in enumerate(said):
        before, after = relation.statement.split("{}")
        sentence += f"{' and' if k else ''} {before}"
        regions[relation.name] = (len(sentence), len(sentence) + len(value))
        sentence += value + after
    return f"{sentence}.", regions
