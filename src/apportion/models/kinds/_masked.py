"""Masked language models, which predict masked tokens."""

from __future__ import annotations

from typing import Any, ClassVar

from apportion.core import ApportionError
from apportion.models.inputs import Prompt
from apportion.models.kinds._kind import Kind
from apportion.models.kinds._registry import register_kind


@register_kind("masked")
class Masked(Kind):
    """Predicts masked tokens."""

    mappings: ClassVar[tuple[str, ...]] = ("MODEL_FOR_MASKED_LM_MAPPING_NAMES",)
    per_token = True
    fills_masks = True

    def row(self, prompt: Prompt, length: int, tokenizer: Any) -> int:
        """The row of the only mask token."""
        mask = getattr(tokenizer, "mask_token_id", None)
        if mask is None:
            raise ApportionError("the place to explain is not known: give position=, or a tokenizer with a mask token.")
        found = [i for i, token in enumerate(prompt.ids) if token == mask]
        if len(found) == 1:
            return found[0]
        where = f", at {found}; choose one with" if found else "; put one where the model shall predict, or give"
        raise ApportionError(f"the text has {len(found)} {tokenizer.mask_token} tokens{where} position=.")
