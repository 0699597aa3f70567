"""Generated questions answered from their text alone, by patterns written down a second time."""

from __future__ import annotations

import re

#: What a question looks like, and for a sentence that answers it where the answer stands; SUBJECT and VALUE are names.
PATTERNS = (
    (r"Which city does (\w+) live in\?", r"SUBJECT\b.*\blives in (\w+)"),
    (r"What is the job of (\w+)\?", r"SUBJECT\b.*\bworks as a (\w+)"),
    (r"Which animal does (\w+) have\?", r"SUBJECT\b.*\bhas a (\w+)"),
    (r"Which instrument does (\w+) play\?", r"SUBJECT\b.*\bplays the (\w+)"),
    (r"What does (\w+) like to eat\?", r"SUBJECT\b.*\blikes to eat (\w+)"),
    (r"What color is the car of (\w+)\?", r"SUBJECT\b.*\bdrives a (\w+) car"),
    (r"What color is the (\w+) painted\?", r"The SUBJECT\b.*\bis painted (\w+)"),
    (r"What color is the (\w+)\?", r"The SUBJECT\b.*\bis (?!made|run|painted)(\w+)"),
    (r"What is the (\w+) made of\?", r"The SUBJECT\b.*\bis made of (\w+)"),
    (r"Who does the (\w+) belong to\?", r"The SUBJECT\b.*\bbelongs to (\w+)"),
    (r"Which day does the (\w+) open on\?", r"The SUBJECT\b.*\bopens on (\w+)"),
    (r"Who runs the (\w+)\?", r"The SUBJECT\b.*\bis run by (\w+)"),
    (r"Who lives in (\w+)\?", r"(\w+)\b.*\blives in VALUE\b"),
    (r"Who works as a (\w+)\?", r"(\w+)\b.*\bworks as a VALUE\b"),
    (r"Who has a (\w+)\?", r"(\w+)\b.*\bhas a VALUE\b"),
    (r"Who plays the (\w+)\?", r"(\w+)\b.*\bplays the VALUE\b"),
    (r"Who likes to eat (\w+)\?", r"(\w+)\b.*\blikes to eat VALUE\b"),
    (r"Who drives a (\w+) car\?", r"(\w+)\b.*\bdrives a VALUE car"),
)


def answers(context: str, question: str) -> list[tuple[int, int]]:
    """All places in the context that answer the question."""
    return _places(context, question, {"SUBJECT": None, "VALUE": None})


def candidates(context: str, question: str) -> list[str]:
    """What each sentence offers as an answer, whomever or whatever it is about."""
    return [context[start:end] for start, end in _places(context, question, {"SUBJECT": r"\\w+", "VALUE": r"\\w+"})]


def _places(context: str, question: str, names: dict[str, str | None]) -> list[tuple[int, int]]:
    for asked, said in PATTERNS:
        found = re.fullmatch(asked, question)
        if found is None:
            continue
        pattern = said
        for name, anything in names.items():
            pattern = re.sub(name, anything or found[1], pattern)
        places = []
        for sentence in re.finditer(r"[^.]+\.", context):
            match = re.match(rf"\s*{pattern}", sentence[0])
            if match:
                places.append((sentence.start() + match.start(1), sentence.start() + match.end(1)))
        return places
    raise AssertionError(question)
