"""A caption: a text from which words can be deleted so that the rest is a text again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Bool
from torch import Tensor

from apportion.core import AnyFeatures, ApportionError, Feature, FeatureKind, feature_groups, group_feature


@dataclass(frozen=True)
class Caption:
    """A text in pieces, some of which are players; the others are always present.

    Args:
        text: The whole text.
        pieces: Start and end of each piece, in reading order.
        player_of: For each piece the index of its player; None if it is none.
        players: As shown in results.
    """

    text: str
    pieces: tuple[tuple[int, int], ...]
    player_of: tuple[int | None, ...]
    players: tuple[Feature, ...]

    def without_absent(self, present: Bool[Tensor, " players"]) -> str:
        """The text of the players that are present; adjacent pieces keep the text between them.

        Other pieces are joined by a space, or by nothing if one of them is punctuation without a space on that side.
        """
        if bool(present.all()):
            return self.text
        left = [k for k, player in enumerate(self.player_of) if player is None or bool(present[player])]
        found = ""
        for before, k in zip([None, *left], left, strict=False):
            start, end = self.pieces[k]
            if before is not None:
                last = self.pieces[before][1]
                found += self.text[last:start] if k == before + 1 else self._joint(last, start)
            found += self.text[start:end]
        return found

    def _joint(self, end: int, start: int) -> str:
        """The text between two pieces when those between them are deleted."""
        closes = not self.text[start].isalnum() and not self.text[start - 1].isspace()
        opens = not self.text[end - 1].isalnum() and not self.text[end].isspace()
        return "" if closes or opens else " "


def caption(text: str, features: Sequence[Feature], players: AnyFeatures, part: str) -> Caption:
    """A text as a caption.

    Args:
        text: As the user gave it.
        features: Its tokens, with their places in it.
        players: `"words"`, `"sentences"`, or spans of it.
        part: The `part` of the players' features.

    Raises:
        ApportionError: The tokens have no places, or the players do not fit.
    """
    tokens = [feature for feature in features if not feature.template]
    if not tokens or any(feature.start is None or feature.end is None for feature in tokens):
        raise ApportionError(
            "words of a caption are deleted from its text, and this tokenizer does not locate its tokens in it; "
            "load the fast tokenizer (AutoProcessor.from_pretrained(…, use_fast=True))."
        )
    if players == "tokens":
        raise ApportionError("single tokens of a caption are not text; use players='words', or spans of it.")
    kind: FeatureKind = "word" if players == "words" else "span"
    pieces, player_of = [], []
    found: list[Feature] = []
    for name, indices in feature_groups(tokens, players):
        pieces.append(_stripped(text, tokens[indices[0]].start or 0, tokens[indices[-1]].end or 0))
        plays = name is not None or isinstance(players, str)
        player_of.append(len(found) if plays else None)
        if plays:
            feature = group_feature(tokens, (name, indices), kind)
            found.append(replace(feature, kind=kind, part=part))
    return Caption(text, tuple(pieces), tuple(player_of), tuple(found))


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    """Start and end of a piece without the white space around it."""
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - (len(piece) - len(piece.rstrip()))
