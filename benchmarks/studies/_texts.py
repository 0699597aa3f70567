"""Texts for the studies: beginnings of sentences from the reference that every Python carries."""

import re
from collections.abc import Iterator
from pydoc_data.topics import topics

from apportion.evaluation import Item

# So many words of a sentence make a text; what follows is for the model to predict.
WORDS = (5, 6, 7, 8)


def beginnings() -> Iterator[Item]:
    """The first words of every plain sentence of 12 to 30 words; the target is the model's own."""
    for k, sentence in enumerate(sentences()):
        words = sentence.split()[: WORDS[k % len(WORDS)]]
        yield Item(id=f"reference-{k}", prompt=" ".join(words), groups={"words": len(words)})


def sentences() -> list[str]:
    found: dict[str, None] = {}
    for name in sorted(topics):
        for paragraph in re.split(r"\n\s*\n", topics[name]):
            if re.search(r"^\s{4,}|::=|>>>|\*{4}|={4}", paragraph):
                continue  # code, grammar, headings
            for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split())):
                if re.fullmatch(r"[A-Z][A-Za-z ,.'-]+\.", sentence) and 12 <= len(sentence.split()) <= 30:
                    found[sentence] = None
    return list(found)
