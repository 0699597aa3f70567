"""Blocks: features that stand together because they belong to the same part of the input and the same message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apportion.core import Feature


@dataclass(frozen=True, kw_only=True)
class Block:
    """Consecutive features with one heading.

    Args:
        heading: Part, role and turn, as far as they say anything; empty for plain text.
        members: Indices of the features.
    """

    heading: str
    members: tuple[int, ...]


def blocks_of(features: Sequence[Feature]) -> tuple[Block, ...]:
    """The features in reading order, cut wherever the part, the role or the turn changes.

    Template features that belong to no message join the message after them, or the one before at the end.
    """
    keys = [_key(feature) for feature in features]
    for i in reversed(range(len(keys) - 1)):
        if _homeless(features[i], keys[i]) and keys[i][0] == keys[i + 1][0]:
            keys[i] = keys[i + 1]
    for i in range(1, len(keys)):
        if _homeless(features[i], keys[i]) and keys[i][0] == keys[i - 1][0]:
            keys[i] = keys[i - 1]
    groups: list[list[int]] = []
    for i, key in enumerate(keys):
        if groups and keys[groups[-1][-1]] == key:
            groups[-1].append(i)
        else:
            groups.append([i])
    return tuple(Block(heading=_heading(*keys[group[0]]), members=tuple(group)) for group in groups)


def place(feature: Feature) -> str:
    """Where a feature stands: its position or positions, part, role and turn."""
    words = []
    if feature.positions:
        first, last = feature.positions[0], feature.positions[-1]
        words.append(f"position {first}" if first == last else f"positions {first}–{last}")
    heading = _heading(*_key(feature))
    return " · ".join([*words, *([heading] if heading else []), *(["template"] if feature.template else [])])


def _key(feature: Feature) -> tuple[str, str | None, int | None]:
    return feature.part, feature.role, feature.turn


def _homeless(feature: Feature, key: tuple[str, str | None, int | None]) -> bool:
    return feature.template and key[1:] == (None, None)


def _heading(part: str, role: str | None, turn: int | None) -> str:
    words = [part if part != "text" else None, role, None if turn is None else f"turn {turn}"]
    return " · ".join(word for word in words if word)
