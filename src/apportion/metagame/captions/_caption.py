"""A caption: a text whose words may be absent, so that what is left is a text again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Bool
from torch import Tensor

from apportion.core import AnyFeatures, ApportionError, Feature, FeatureKind, feature_groups, group_feature


@dataclass(frozen=True)
class Caption:
    """A text in pieces, some of which play; the others are always there.

    Args:
        text: The whole.
        pieces: Where each piece stands in it, in reading order.
        player_of: For each piece the player that it is; None where it does not play.
        players: As results show them.
    """

    text: str
    pieces: tuple[tuple[int, int], ...]
    player_of: tuple[int | None, ...]
    players: tuple[Feature, ...]

    def without_absent(self, present: Bool[Tensor, " players"]) -> str:
        """The text of those who are present: pieces that stood side by side keep what was between them.

        Others are joined by a space, or by nothing where one of them is punctuation that had none on that side. With
        all present it is the text as it was given.
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
        """What joins a piece that ends to one that starts when those between them are gone."""
        closes = not self.text[start].isalnum() and not self.text[start - 1].isspace()
        opens = not self.text[end - 1].isalnum() and not self.text[end].isspace()
        return "" if closes or opens else " "


def caption(text: str, features: Sequence[Feature], players: AnyFeatures, part: str) -> Caption:
    """A text as a caption.

    Args:
        text: As the user gave it.
        features: Its tokens, which know where they stand in it.
        players: `"words"` (`"tokens"` are no texts by themselves), `"sentences"`, or spans of it.
        part: What the players' features are said to belong to.

    Raises:
        ApportionError: The tokens do not know where they stand, or nothing plays.
    """
    tokens = [feature for feature in features if not feature.template]
    if not tokens or any(feature.start is None or feature.end is None for feature in tokens):
        raise ApportionError(
            "words of a caption are deleted from its text, and this tokenizer does not tell where its tokens stand in "
            "it; load the fast tokenizer (AutoProcessor.from_pretrained(…, use_fast=True))."
        )
    if players == "tokens":
        raise ApportionError("a caption's tokens are no texts by themselves; use players='words', or spans of it.")
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
    """Where a piece stands without the white space around it."""
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - (len(piece) - len(piece.rstrip()))
