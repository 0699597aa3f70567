"""A mixed masker: one masker for text and one for images."""

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
from apportion.games.maskers._same_values import as_before, rounding
from apportion.task import AttributionTask, Variant

_OF_TEXT = (Auto, Delete, AttentionMask, Replace, ZeroEmbedding, MeanEmbedding)


@final
@dataclass(frozen=True)
class Mixed(Masker):
    """Hides absent tokens by one masker and absent parts of images by another.

    Args:
        text: The masker for tokens.
        image: The masker for images.
    """

    text: Masker
    image: ImageMasker

    @property
    def name(self) -> str:  # type: ignore[override]
        """Both names, that of the masker for text first."""
        return f"{self.text.name}+{self.image.name}"

    def variant(self, task: AttributionTask, example: int, present: Bool[Tensor, " features"]) -> Variant:
        """See `Masker.variant`."""
        prompt = task.prompts[example]
        variant = Variant(prompt, task.rows[example])
        words = present.clone()
        words[: prompt.before_tokens] = True
        if not bool(words.all()):
            self._check(task, example)
            variant = self.text.variant(task, example, words)
        return self.image.changed(task, example, variant, present)

    def _check(self, task: AttributionTask, example: int) -> None:
        """Reject embeddings in place of token ids if the model needs the ids, as to find the places of its images."""
        if not isinstance(self.text, ZeroEmbedding | MeanEmbedding) or example in _CHECKED.setdefault(task, set()):
            return
        all_present = torch.ones(len(task.prompts[example].features), dtype=torch.bool)
        try:
            (found,) = task.evaluate(example, [self.text.variant(task, example, all_present)])
            same = as_before(task, example, found, rounding(task) ** 0.5)
        except (ApportionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            same = False
        if not same:
            raise ApportionError(
                f"{type(task.head.model).__name__} cannot read embeddings in place of tokens beside an image, so the "
                f"masker {self.text.name!r} does not fit its text; use masker='delete+{self.image.name}'."
            )
        _CHECKED[task].add(example)


#: For each task, the examples whose embeddings gave the same values as their token ids.
_CHECKED: WeakKeyDictionary[AttributionTask, set[int]] = WeakKeyDictionary()


def in_prompt(masker: Masker, task: AttributionTask) -> Masker:
    """The masker for a task's prompts: for their text, their images, or both.

    A masker for text alone is completed by the mean colour for images, which hides regions of every size (a blur keeps
    the colour of regions larger than itself) and fits every model; one for images is completed by `"auto"` for text.
    `"zero"` and `"mean"` are for both. A masker class of the user's own is used as it is.

    Raises:
        ApportionError: The masker is for images and there are none, or for text and there is none.
    """
    prompt = task.prompts[0]
    text, image = _text_of(masker), _image_of(masker)
    if text is None and image is None:
        return masker.resolved(task)  # the user's own
    if not prompt.continuous_inputs:
        if text is None:
            raise ApportionError(
                f"the masker {masker.name!r} is for images, and the prompt has none; use 'auto', 'delete', 'replace', "
                "'attention-mask', 'zero' or 'mean'."
            )
        return text.resolved(task)
    if not prompt.parts:
        if image is None and not isinstance(masker, Auto):
            raise ApportionError(
                f"the masker {masker.name!r} is for text, and the prompt is an image; use 'auto', 'mean', 'zero', "
                "'blur', 'inpaint' or 'drop-tokens'."
            )
        return image or MeanColour()
    return Mixed((text or Auto()).resolved(task), image or MeanColour())


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
