"""A mixed masker: text made absent in one way and images in another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool
from torch import Tensor

from apportion.core import ApportionError
from apportion.games.maskers._image_masker import ImageMasker, MeanColour, ZeroPixels
from apportion.games.maskers._masker import AttentionMask, Auto, Delete, Masker, MeanEmbedding, Replace, ZeroEmbedding
from apportion.task import Question, Variant

_OF_TEXT = (Auto, Delete, AttentionMask, Replace, ZeroEmbedding, MeanEmbedding)


@final
@dataclass(frozen=True)
class Mixed(Masker):
    """Absent tokens are made absent by one masker, absent parts of images by another.

    Args:
        text: For tokens.
        image: For images.
    """

    text: Masker
    image: ImageMasker

    @property
    def name(self) -> str:  # type: ignore[override]
        """Both names, that of the text's masker first."""
        return f"{self.text.name}+{self.image.name}"

    def variant(self, question: Question, example: int, present: Bool[Tensor, " features"]) -> Variant:
        """What the model reads when only some of its tokens and parts of images are present."""
        prompt = question.prompts[example]
        variant = Variant(prompt, question.rows[example])
        words = present.clone()
        words[: prompt.before_tokens] = True
        if not bool(words.all()):
            self._check(question, example)
            variant = self.text.variant(question, example, words)
        return self.image.changed(question, example, variant, present)

    def _check(self, question: Question, example: int) -> None:
        """Refuse embeddings in the place of tokens where the model then reads the image otherwise.

        Raises:
            ApportionError: The model takes token ids alone, or needs them to find the places of its images.
        """
        if not isinstance(self.text, ZeroEmbedding | MeanEmbedding) or example in _CHECKED.setdefault(question, set()):
            return
        everyone = torch.ones(len(question.prompts[example].features), dtype=torch.bool)
        known = torch.tensor(question.read.values[example], dtype=torch.float64)
        model = question.head.model
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        try:
            (found,) = question.evaluate(example, [self.text.variant(question, example, everyone)])
            same = bool(((found - known).abs() <= torch.finfo(dtype).eps ** 0.5 * (1 + known.abs())).all())
        except (ApportionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            same = False
        if not same:
            raise ApportionError(
                f"{type(model).__name__} cannot read embeddings in the place of words beside an image, so the masker "
                f"{self.text.name!r} does not fit its text; use masker='delete+{self.image.name}'."
            )
        _CHECKED[question].add(example)


#: By question the examples that were read as embeddings and gave what they should.
_CHECKED: WeakKeyDictionary[Question, set[int]] = WeakKeyDictionary()


def in_prompt(masker: Masker, question: Question) -> Masker:
    """The masker that serves a question's prompts: of their text, of their images, or of both.

    What a masker of one kind leaves open, the other's default fills: for images the mean colour of the image, which
    hides every region whatever its size (a blur leaves the colour of what is larger than itself) and fits every model.
    `"zero"` and `"mean"` are of both kinds.

    Args:
        masker: As the user chose it; one of the user's own is taken as it is.
        question: With its prompts.

    Raises:
        ApportionError: It is for images and there are none, or for text and there is none.
    """
    prompt = question.prompts[0]
    text, image = _text_of(masker), _image_of(masker)
    if text is None and image is None:
        return masker.resolved(question)  # the user's own
    if not prompt.canvases:
        if text is None:
            raise ApportionError(
                f"the masker {masker.name!r} is for images, and the prompt has none; use 'auto', 'delete', 'replace', "
                "'attention-mask', 'zero' or 'mean'."
            )
        return text.resolved(question)
    if not prompt.parts:
        if image is None and not isinstance(masker, Auto):
            raise ApportionError(
                f"the masker {masker.name!r} is for text, and the prompt is an image; use 'auto', 'mean', 'zero', "
                "'blur', 'inpaint' or 'drop-tokens'."
            )
        return image or MeanColour()
    return Mixed((text or Auto()).resolved(question), image or MeanColour())


def _text_of(masker: Masker) -> Masker | None:
    if isinstance(masker, Mixed):
        return masker.text
    return masker if isinstance(masker, _OF_TEXT) else None


def _image_of(masker: Masker) -> ImageMasker | None:
    if isinstance(masker, Mixed):
        return masker.image
    if isinstance(masker, ZeroEmbedding):
        return ZeroPixels()
    if isinstance(masker, MeanEmbedding):
        return MeanColour()
    return masker if isinstance(masker, ImageMasker) else None
