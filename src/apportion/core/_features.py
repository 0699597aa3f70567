"""A feature: one thing that a share of the target goes to, such as a token, a word or a patch of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

FeatureKind = Literal["token", "word", "span", "patch", "pixel", "region", "frame", "placeholder", "input"]


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One receiver of relevance.

    Args:
        label: The text as the reader should see it, with its leading space (`" dogs"`).
        kind: What the feature is made of. A `"placeholder"` is a token that holds the place of an image in a text, an
            `"input"` a number that is no place of anything, such as a diffusion model's pooled prompt.
        positions: Its places along the model's sequence axis; a token has one, a word may have several. Of a patch,
            pixel, region or frame: its numbers in its picture's `owner`.
        part: Which input it belongs to: `"text"`, or `"source"` and `"decoder"` of an encoder-decoder,
            or `"answer"` for the tokens of an explained span; `"image"`, `"sound"` and the like.
        role: In a chat, who speaks: `"system"`, `"user"`, `"assistant"`, …
        turn: In a chat, the number of the message, from 0.
        template: Whether the tokenizer or its chat template put it there rather than the user.
        start: Offset of its first character in the prompt's text, when the tokenizer tells it.
        end: Offset after its last character.
        image: Which of the attribution's pictures it is a part of.
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
    image: int | None = None

    @property
    def of_text(self) -> bool:
        """Whether it is a part of a text, so that its positions are places of tokens."""
        return self.image is None and self.kind in ("token", "word", "span", "placeholder")

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values; see `from_dict`."""
        return {**self.__dict__, "positions": list(self.positions)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Feature:
        """The inverse of `to_dict`."""
        return cls(**{**fields, "positions": tuple(fields["positions"])})
