"""Complete random inputs for a tiny model, so that `model(**inputs)` runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from tests.tiny_configs import is_config

Kind = Literal["text", "text to text", "image", "image and text", "image in text"]
"""What goes in: words; words and the words so far; pixels; pixels beside a caption; pixels among the words."""

WORDS = 12


def setting(config: PreTrainedConfig, *names: str, default: Any = None) -> Any:
    """The first of `names` that the configuration, or one nested in it, holds."""
    layers = [config.to_dict()]
    for settings in layers:
        for name in names:
            if settings.get(name) is not None:
                return settings[name]
        layers.extend(value for value in settings.values() if is_config(value))
    return default


def words(count: int, generator: torch.Generator) -> Tensor:
    """One sequence of ordinary words, none of them special."""
    return torch.randint(10, 100, (1, count), generator=generator)


def pixels(config: PreTrainedConfig, generator: torch.Generator) -> Tensor:
    """One random image of the size that the configuration asks for."""
    size = setting(config, "image_size", default=32)
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    channels = setting(config, "num_channels", "in_channels", "in_chans", default=3)
    return torch.randn(1, channels, height, width, generator=generator, dtype=torch.float64)


def tiny_inputs(kind: Kind, config: PreTrainedConfig, seed: int = 0) -> dict[str, Tensor]:
    """Random inputs of one kind for a model with this configuration."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "text":
        return {"input_ids": words(WORDS, generator)}
    if kind == "text to text":
        return {"input_ids": words(WORDS, generator), "decoder_input_ids": words(WORDS // 2, generator)}
    if kind == "image":
        return {"pixel_values": pixels(config, generator)}
    if kind == "image and text":
        return {"input_ids": words(WORDS, generator), "pixel_values": pixels(config, generator)}
    raise NotImplementedError(kind)
