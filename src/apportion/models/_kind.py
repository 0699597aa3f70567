"""What a model predicts, told from its class: the next token, a masked token, a class, the likeness of a pair."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Literal

from torch import nn
from transformers.models.auto import modeling_auto

Kind = Literal[
    "causal",
    "masked",
    "seq2seq",
    "sequence-classification",
    "token-classification",
    "image-classification",
    "dual-encoder",
    "other",
]

_MAPPINGS: dict[Kind, tuple[str, ...]] = {
    "seq2seq": ("MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES", "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES"),
    "causal": ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",),
    "masked": ("MODEL_FOR_MASKED_LM_MAPPING_NAMES",),
    "sequence-classification": ("MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",),
    "token-classification": ("MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",),
    "image-classification": ("MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",),
    "dual-encoder": ("MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES",),
}
#: Models of images and text that write text: with an encoder and a decoder, or as one stack.
_WRITERS = "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES"


def kind_of_model(model: nn.Module) -> Kind:
    """The kind of a transformers model, also of a subclass of one; `"other"` for any other module."""
    for parent in type(model).__mro__:
        for kind, names in _class_names().items():
            if parent.__name__ in names:
                # BART's and its like's classes serve both; their configuration tells.
                if kind == "seq2seq" and not getattr(getattr(model, "config", None), "is_encoder_decoder", True):
                    continue
                return kind
        if parent.__name__ in _names(_WRITERS):
            return "seq2seq" if getattr(getattr(model, "config", None), "is_encoder_decoder", False) else "causal"
    return "other"


@cache
def _class_names() -> dict[Kind, frozenset[str]]:
    classes: dict[Kind, frozenset[str]] = {}
    for kind, mappings in _MAPPINGS.items():
        classes[kind] = frozenset(name for mapping in mappings for name in _names(mapping))
    return classes


@cache
def _names(mapping: str) -> frozenset[str]:
    names: set[str] = set()
    for value in getattr(modeling_auto, mapping, {}).values():
        names.update([value] if isinstance(value, str) else value)
    return frozenset(names)


def sees(model: nn.Module) -> bool:
    """Whether a model reads images."""
    return _reads(model, "pixel_values")


def _reads(model: nn.Module, name: str) -> bool:
    return name in inspect.signature(model.forward).parameters
