"""Dual encoders, which compare two inputs such as an image and a text."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from apportion.models.inputs import Prompt, sees, text_without_image
from apportion.models.kinds._kind import Kind
from apportion.models.kinds._registry import register_kind


@register_kind("dual-encoder")
class DualEncoder(Kind):
    """Encodes both sides of a pair and compares the encodings."""

    mappings: ClassVar[tuple[str, ...]] = ("MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES",)
    compares = True

    def started(self, prompt: Prompt, model: nn.Module, processor: Any) -> Prompt:
        """The prompt itself; rejects a text without an image."""
        if sees(model) and "input_ids" in prompt.parts and "pixel_values" not in prompt.inputs:
            raise text_without_image(model)
        return prompt
