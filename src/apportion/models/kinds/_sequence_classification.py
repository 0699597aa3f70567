"""Classifiers of whole texts."""

from __future__ import annotations

from typing import ClassVar

from apportion.models.kinds._kind import Kind
from apportion.models.kinds._registry import register_kind


@register_kind("sequence-classification")
class SequenceClassification(Kind):
    """Predicts the class of a text."""

    mappings: ClassVar[tuple[str, ...]] = ("MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",)
    has_classes = True
    reads_padding = True
