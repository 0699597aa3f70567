"""A feature: a part of the prompt that gets a share of the target, such as a token, a word or an image patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

FeatureKind = Literal["token", "word", "span", "patch", "pixel", "region", "frame", "placeholder", "input"]


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A part of the prompt that receives relevance.

    Args:
        label: The text to display, with its leading space (`" dogs"`).
        kind: What the feature is. A `"placeholder"` is a token that holds the place of an image in a text, an `"input"`
            a value without a place, such as a diffusion model's pooled prompt.
        positions: Its positions along the model's sequence axis; a token has one, a word may have several. Of a patch,
            pixel, region or frame: its numbers in its picture's `owner`.
        part: Which input it belongs to: `"text"`, or `"source"` and `"decoder"` of an encoder-decoder,
            or `"answer"` for the tokens of an explained span; `"image"`, `"sound"` and the like.
        role: In a chat, who speaks: `"system"`, `"user"`, `"assistant"`, …
        turn: In a chat, the index of the message.
        template: Whether it was added by the tokenizer or its chat template.
        start: Offset of its first character in the prompt's text, if the tokenizer provides it.
        end: Offset after its last character.
        image: The index of its picture in the attribution.
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
        """Whether it is a part of a text, so that its positions are those of tokens."""
        return self.image is None and self.kind in ("token", "word", "span", "placeholder")

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values; see `from_dict`."""
        return {**self.__dict__, "positions": list(self.positions)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Feature:
        """The inverse of `to_dict`."""
        return cls(**{**fields, "positions": tuple(fields["positions"])})
