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
from apportion.task import AttributionTask, Variant

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

    def variant(self, task: AttributionTask, example: int, present: Bool[Tensor, " features"]) -> Variant:
        """What the model reads when only some of its tokens and parts of images are present."""
        prompt = task.prompts[example]
        variant = Variant(prompt, task.rows[example])
        words = present.clone()
        words[: prompt.before_tokens] = True
        if not bool(words.all()):
            self._check(task, example)
            variant = self.text.variant(task, example, words)
        return self.image.changed(task, example, variant, present)

    def _check(self, task: AttributionTask, example: int) -> None:
        """Refuse embeddings in the place of tokens where the model then reads the image otherwise.

        Raises:
            ApportionError: The model takes token ids alone, or needs them to find the places of its images.
        """
        if not isinstance(self.text, ZeroEmbedding | MeanEmbedding) or example in _CHECKED.setdefault(task, set()):
            return
        everyone = torch.ones(len(task.prompts[example].features), dtype=torch.bool)
        known = torch.tensor(task.target_values.values[example], dtype=torch.float64)
        model = task.head.model
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        try:
            (found,) = task.evaluate(example, [self.text.variant(task, example, everyone)])
            same = bool(((found - known).abs() <= torch.finfo(dtype).eps ** 0.5 * (1 + known.abs())).all())
        except (ApportionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            same = False
        if not same:
            raise ApportionError(
                f"{type(model).__name__} cannot read embeddings in the place of words beside an image, so the masker "
                f"{self.text.name!r} does not fit its text; use masker='delete+{self.image.name}'."
            )
        _CHECKED[task].add(example)


#: By task the examples that were read as embeddings and gave what they should.
_CHECKED: WeakKeyDictionary[AttributionTask, set[int]] = WeakKeyDictionary()


def in_prompt(masker: Masker, task: AttributionTask) -> Masker:
    """The masker that serves a task's prompts: of their text, of their images, or of both.

    What a masker of one kind leaves open, the other's default fills: for images the mean colour of the image, which
    hides every region whatever its size (a blur leaves the colour of what is larger than itself) and fits every model.
    `"zero"` and `"mean"` are of both kinds.

    Args:
        masker: As the user chose it; one of the user's own is taken as it is.
        task: With its prompts.

    Raises:
        ApportionError: It is for images and there are none, or for text and there is none.
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
