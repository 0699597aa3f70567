"""Causal language models, which predict the next token from all tokens before it."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from apportion.models.kinds._kind import Kind, class_names
from apportion.models.kinds._registry import register_kind
from apportion.models.kinds._seq2seq import WRITERS


@register_kind("causal")
class Causal(Kind):
    """Predicts the next token."""

    mappings: ClassVar[tuple[str, ...]] = ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",)
    per_token = True
    writes = True
    looks_back = True

    def claims(self, class_name: str, model: nn.Module) -> bool:
        """Also models of images and text that generate text as one stack."""
        one_stack = not getattr(getattr(model, "config", None), "is_encoder_decoder", False)
        return super().claims(class_name, model) or (one_stack and class_name in class_names(WRITERS))
