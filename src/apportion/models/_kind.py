"""What a model predicts, told from its class: the next token, a masked token, a class."""

from __future__ import annotations

from functools import cache
from typing import Literal

from torch import nn
from transformers.models.auto import modeling_auto

Kind = Literal["causal", "masked", "seq2seq", "sequence-classification", "token-classification", "other"]

_MAPPINGS: dict[Kind, tuple[str, ...]] = {
    "seq2seq": ("MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",),
    "causal": ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",),
    "masked": ("MODEL_FOR_MASKED_LM_MAPPING_NAMES",),
    "sequence-classification": ("MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",),
    "token-classification": ("MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",),
}


def kind_of_model(model: nn.Module) -> Kind:
    """The kind of a transformers model, also of a subclass of one; `"other"` for any other module."""
    for parent in type(model).__mro__:
        for kind, names in _class_names().items():
            if parent.__name__ in names:
                # BART's and its like's classes serve both; their configuration tells.
                if kind == "seq2seq" and not getattr(getattr(model, "config", None), "is_encoder_decoder", True):
                    continue
                return kind
    return "other"


@cache
def _class_names() -> dict[Kind, frozenset[str]]:
    classes: dict[Kind, frozenset[str]] = {}
    for kind, mappings in _MAPPINGS.items():
        names: set[str] = set()
        for mapping in mappings:
            for value in getattr(modeling_auto, mapping, {}).values():
                names.update([value] if isinstance(value, str) else value)
        classes[kind] = frozenset(names)
    return classes
