"""Classifiers of single tokens."""

from __future__ import annotations

from typing import Any, ClassVar

from apportion.core import ApportionError
from apportion.models.inputs import Prompt
from apportion.models.kinds._kind import Kind
from apportion.models.kinds._registry import register_kind

#: How many tokens an error shows.
SHOWN = 60


@register_kind("token-classification")
class TokenClassification(Kind):
    """Predicts the class of each token."""

    mappings: ClassVar[tuple[str, ...]] = ("MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",)
    has_classes = True
    per_token = True

    def row(self, prompt: Prompt, length: int, tokenizer: Any) -> int:
        """There is no default row."""
        shown = " ".join(f"{i}:{f.label.strip()}" for i, f in enumerate(prompt.features[:SHOWN]))
        raise ApportionError(
            f"a classifier of tokens has an output per token; say which: position=0 or a word. Tokens: {shown}"
        )
