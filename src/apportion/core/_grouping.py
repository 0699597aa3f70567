"""Groups of neighbouring features: words, sentences, paragraphs and spans of a prompt."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core._errors import ApportionError
from apportion.core._features import Feature, FeatureKind

Group = tuple[str | None, list[int]]
"""A name, if any, and the indices of the features of a group."""

AnySpans = str | Sequence[str] | Mapping[str, str | Sequence[int]]
"""Spans as users give them: a text, texts, or names with a text or indices of features."""

Named = Literal["tokens", "words", "sentences", "paragraphs", "patches"]

AnyFeatures = Named | list[str] | tuple[str, ...] | Mapping[str, str | Sequence[int]]
"""Parts of a prompt as users name them: `"tokens"` or `"patches"` (every feature by itself), `"words"`, `"sentences"`,
`"paragraphs"`, or spans: texts that occur once, or names with such texts or indices of features. Parts of an image
stay by themselves unless a span names them together; `regions` chooses what they are."""

_INSIDE_WORDS = "'’-_"
_END_OF_SENTENCE = re.compile(r"[.!?…][\"'”’»)\]]*$")
_END_WITHOUT_SPACE = re.compile(r"[。！？][」』”’）]*$")


def feature_groups(features: Sequence[Feature], named: AnyFeatures) -> list[Group]:
    """The named groups; with spans, every feature outside of them is a group without a name.

    Raises:
        ApportionError: The name is not known, or a span does not fit the prompt.
    """
    if not isinstance(named, str):
        return span_groups(features, named)
    check_features(named)
    if named in ("tokens", "patches"):
        return [(None, [i]) for i in range(len(features))]
    return {"words": word_groups, "sentences": sentence_groups, "paragraphs": paragraph_groups}[named](features)


def check_features(named: AnyFeatures) -> None:
    """Reject an unknown name of parts."""
    if isinstance(named, str) and named not in get_args(Named):
        names = ", ".join(map(repr, get_args(Named)))
        raise ApportionError(f"{named!r} names no parts of a prompt; use {names}, or spans of the prompt.")


def word_groups(features: Sequence[Feature]) -> list[Group]:
    """The tokens of each word.

    A word begins at white space, between letters or digits and punctuation, and where the part, role or turn changes;
    template tokens stay single.
    """
    return _grouped(features, _continues_word)


def sentence_groups(features: Sequence[Feature]) -> list[Group]:
    """The tokens of each sentence.

    A sentence ends with a line break, with `. ! ? …` before white space that no lower-case letter follows, and where
    the part, role or turn changes. White space belongs to the sentence before it; template tokens stay single.
    """
    return _grouped(features, _continues_sentence)


def paragraph_groups(features: Sequence[Feature]) -> list[Group]:
    """The tokens of each paragraph.

    A paragraph ends with an empty line, and where the part, role or turn changes. White space belongs to the paragraph
    before it; template tokens stay single.
    """
    return _grouped(features, _continues_paragraph)


def span_groups(features: Sequence[Feature], spans: Mapping[str, str | Sequence[int]] | Sequence[str]) -> list[Group]:
    """The features of each span, and every other feature alone, in reading order.

    Args:
        features: The features of the prompt.
        spans: Names with their features, given as a text that occurs once or as indices of features; or just texts.

    Raises:
        ApportionError: A text does not occur, occurs more than once, or overlaps another span.
    """
    named = spans.items() if isinstance(spans, Mapping) else [(text, text) for text in spans]
    taken: dict[int, str] = {}
    chosen: dict[str, list[int]] = {}
    for name, span in named:
        indices = find_text(features, span) if isinstance(span, str) else sorted(int(i) for i in span)
        for i in indices:
            if not 0 <= i < len(features):
                raise ApportionError(f"span {name!r} names feature {i}; there are {len(features)}.")
            if i in taken:
                shared = f"span {name!r} shares {features[i].label!r} with span {taken[i]!r}"
                raise ApportionError(f"{shared}; spans must not overlap.")
            taken[i] = name
        chosen[name] = indices
    groups: list[Group] = [(None, [i]) for i in range(len(features)) if i not in taken]
    groups += [(name, indices) for name, indices in chosen.items() if indices]
    return sorted(groups, key=lambda group: group[1][0])


def group_feature(features: Sequence[Feature], group: Group, kind: FeatureKind) -> Feature:
    """One feature for a group; without a name it gets the joined labels."""
    name, indices = group
    members = [features[i] for i in indices]
    alone = len(members) == 1 and name is None
    # A word may be one token, but not a patch or the placeholder of an image.
    same = alone and (kind != "word" or members[0].kind not in ("token", "span"))
    return replace(
        members[0],
        label=name if name is not None else "".join(m.label for m in members),
        kind=members[0].kind if same else kind,
        positions=tuple(p for m in members for p in m.positions),
        template=all(m.template for m in members),
        end=members[-1].end,
    )


def _grouped(features: Sequence[Feature], continues: Callable[[list[Feature], Feature], bool]) -> list[Group]:
    groups: list[list[int]] = []
    for i, here in enumerate(features):
        before = [features[k] for k in groups[-1]] if groups else []
        if before and _may_continue(before[-1], here) and continues(before, here):
            groups[-1].append(i)
        else:
            groups.append([i])
    return [(None, group) for group in groups]


def _may_continue(before: Feature, here: Feature) -> bool:
    if before.template or here.template or not before.of_text or not here.of_text:
        return False
    if (before.part, before.role, before.turn) != (here.part, here.role, here.turn):
        return False
    return not (here.start is not None and before.end is not None and here.start > before.end)


def _continues_word(group: list[Feature], here: Feature) -> bool:
    before = group[-1]
    if not here.label or not before.label:
        return True  # a piece of a character
    end, begin = before.label[-1], here.label[0]
    if begin.isspace() or end.isspace():
        return False
    # An apostrophe or a hyphen belongs to the word around it.
    return end.isalnum() == begin.isalnum() or end in _INSIDE_WORDS or begin in _INSIDE_WORDS


def _continues_sentence(group: list[Feature], here: Feature) -> bool:
    said, coming = "".join(f.label for f in group), here.label
    if not said.strip() or not coming.strip():
        return True
    ended = said.rstrip()
    gap = said[len(ended) :] + coming[: len(coming) - len(coming.lstrip())]
    if "\n" in gap or _END_WITHOUT_SPACE.search(ended):
        return False
    return not (gap and _END_OF_SENTENCE.search(ended) and not coming.lstrip()[0].islower())


def _continues_paragraph(group: list[Feature], here: Feature) -> bool:
    said, coming = "".join(f.label for f in group), here.label
    if not said.strip() or not coming.strip():
        return True
    gap = said[len(said.rstrip()) :] + coming[: len(coming) - len(coming.lstrip())]
    return gap.count("\n") < 2


def find_text(features: Sequence[Feature], text: str, *, where: str = "the prompt") -> list[int]:
    """The features that cover the only occurrence of `text` in the joined labels.

    Raises:
        ApportionError: It does not occur, or more than once.
    """
    joined = "".join(f.label for f in features)
    count = joined.count(text) if text else 0
    if count != 1:
        raise ApportionError(
            f"span {text!r} occurs {count} times in {where}; give a text that occurs once, or indices of features."
        )
    start = joined.index(text)
    end, at, found = start + len(text), 0, []
    for i, feature in enumerate(features):
        label_end = at + len(feature.label)
        # A token's leading space belongs to it, so a span that begins after the space takes the token too.
        if at < end and label_end > start:
            found.append(i)
        at = label_end
    return found


def summed_into_words(features: Sequence[Feature]) -> tuple[Float[Tensor, "feature word"], tuple[Feature, ...]]:
    """A matrix with ones where a feature belongs to a word, and the words; features of images stay single."""
    groups = word_groups(features)
    into = torch.zeros(len(features), len(groups), dtype=torch.float64)
    for k, (_, members) in enumerate(groups):
        into[members, k] = 1
    return into, tuple(group_feature(features, group, "word") for group in groups)


def feature_index(feature: int | str, features: Sequence[Feature], what: str) -> int:
    """The index of a feature given by index or label; errors call the features `what`.

    Raises:
        ApportionError: There is no such feature, or several have that label.
    """
    if isinstance(feature, int):
        if not 0 <= feature < len(features):
            raise ApportionError(f"there is no {what} {feature}; there are {len(features)}.")
        return feature
    found = [i for i, f in enumerate(features) if f.label.strip() == feature.strip()]
    if len(found) != 1:
        raise ApportionError(f"{len(found)} {what}s are labelled {feature!r}; give one by its number.")
    return found[0]
