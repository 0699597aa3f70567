"""A feature: one thing that a share of the target goes to, such as a token, a word or a span."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

FeatureKind = Literal["token", "word", "span"]


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One receiver of relevance.

    Args:
        label: The text as the reader should see it, with its leading space (`" dogs"`).
        kind: What the feature is made of.
        positions: Its places along the model's sequence axis; a token has one, a word may have several.
        part: Which input it belongs to: `"text"`, or `"source"` and `"decoder"` of an encoder-decoder,
            or `"answer"` for the tokens of an explained span.
        role: In a chat, who speaks: `"system"`, `"user"`, `"assistant"`, …
        turn: In a chat, the number of the message, from 0.
        template: Whether the tokenizer or its chat template put it there rather than the user.
        start: Offset of its first character in the prompt's text, when the tokenizer tells it.
        end: Offset after its last character.
    """

    label: str
    kind: FeatureKind = "token"
    positions: tuple[int, ...] = ()
    part: str = "text"
    role: str | None = None
    turn: int | None = None
    template: bool = False
    start: int | None = None
    end: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values; see `from_dict`."""
        return {**self.__dict__, "positions": list(self.positions)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Feature:
        """The inverse of `to_dict`."""
        return cls(**{**fields, "positions": tuple(fields["positions"])})
