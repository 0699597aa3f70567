"""Classifiers of images."""

from __future__ import annotations

from apportion.models.kinds._kind import Kind
from apportion.models.kinds._registry import register_kind


@register_kind("image-classification")
class ImageClassification(Kind):
    """Predicts the class of an image."""

    mappings = ("MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",)
    has_classes = True
    of_images = True
