"""Padding: the user's padding tokens restored, with shares of exactly 0."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from apportion.core import Feature
from apportion.models.inputs import Prompt, tokenizer_of
from apportion.results import Attribution


def with_padding(attribution: Attribution, prompt: Prompt, processor: Any) -> Attribution:
    """The attribution with the user's padding tokens restored, with shares of exactly 0."""
    left, right = prompt.padding
    if not left and not right:
        return attribution
    # The decoder's features follow; groups of tokens may be fewer than the tokens.
    parts = [feature.part for feature in attribution.features]
    count = parts.index("decoder") if "decoder" in parts else len(parts)
    label = getattr(tokenizer_of(processor), "pad_token", None) or "[PAD]"
    part = attribution.features[0].part

    def pads(first: int, number: int) -> tuple[Feature, ...]:
        return tuple(Feature(label=label, positions=(first + k,), part=part, template=True) for k in range(number))

    moved = tuple(replace(f, positions=tuple(p + left for p in f.positions)) for f in attribution.features[:count])
    end = max(p for f in moved for p in f.positions) + 1
    features = (*pads(0, left), *moved, *pads(end, right), *attribution.features[count:])

    def padded(scores: Tensor | None) -> Tensor | None:
        if scores is None:
            return None
        return torch.cat([F.pad(scores[..., :count], (left, right)), scores[..., count:]], -1)

    scores = padded(attribution.scores)
    assert scores is not None
    return replace(
        attribution,
        features=features,
        scores=scores,
        position_scores=padded(attribution.position_scores),
        standard_errors=padded(attribution.standard_errors),
    )
