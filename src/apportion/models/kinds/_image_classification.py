"""Classifiers of images."""

from __future__ import annotations

from typing import ClassVar

from apportion.models.kinds._kind import Kind
from apportion.models.kinds._registry import register_kind


@register_kind("image-classification")
class ImageClassification(Kind):
    """Predicts the class of an image."""

    mappings: ClassVar[tuple[str, ...]] = ("MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",)
    has_classes = True
    of_images = True
