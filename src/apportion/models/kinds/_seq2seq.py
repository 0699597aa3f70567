"""Encoder-decoders, which predict the next token of the decoder's sequence from it and a source."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import nn

from apportion.core import ApportionError
from apportion.models.inputs import Prompt, extended
from apportion.models.kinds._kind import Kind, class_names
from apportion.models.kinds._registry import register_kind

#: The table of models of images and text that generate text, as encoder-decoders or as one stack.
WRITERS = "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES"


@register_kind("seq2seq")
class Seq2Seq(Kind):
    """Predicts the next token of its decoder's sequence."""

    mappings: ClassVar[tuple[str, ...]] = (
        "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
        "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
    )
    per_token = True
    writes = True
    has_decoder = True

    def claims(self, class_name: str, model: nn.Module) -> bool:
        """Some classes, such as BART's, are also of other kinds; the configuration decides."""
        known = super().claims(class_name, model)
        both = getattr(getattr(model, "config", None), "is_encoder_decoder", known)
        return both and (known or class_name in class_names(WRITERS))

    def started(self, prompt: Prompt, model: nn.Module, processor: Any) -> Prompt:
        """The prompt with the first token of the decoder's sequence, if it has none."""
        if "decoder_input_ids" in prompt.inputs:
            return prompt
        config: Any = model.config
        start = getattr(config, "decoder_start_token_id", None)
        if start is None:
            start = getattr(config, "bos_token_id", None)
        if start is None:
            raise ApportionError("the configuration has no decoder_start_token_id; give {'decoder_input_ids': …}.")
        first = prompt.before_tokens
        device = next(model.parameters()).device
        empty = replace(
            prompt,
            inputs={**prompt.inputs, "decoder_input_ids": torch.empty(1, 0, dtype=torch.long, device=device)},
            features=prompt.features[:first] + tuple(replace(f, part="source") for f in prompt.features[first:]),
            parts={**prompt.parts, "decoder_input_ids": 0},
        )
        return extended(empty, "decoder_input_ids", [start], processor)

    def rows_in(self, parts: tuple[str, ...]) -> str:
        """The decoder's tokens."""
        return next((part for part in parts if part.startswith("decoder")), parts[0])
