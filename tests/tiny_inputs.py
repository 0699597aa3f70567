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
IMAGE_TOKENS: Mapping[str, int] = {
    "llava": 16,
    **dict.fromkeys(("gemma3", "shieldgemma2", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"), 4),
}
"""How many words an image takes up, by model type."""


def setting(config: PreTrainedConfig, *names: str, default: Any = None) -> Any:
    """The first of `names` that the configuration, or one nested in it, holds."""
    found = [config.to_dict()]
    for settings in found:
        for name in names:
            if settings.get(name) is not None:
                return settings[name]
        found.extend(value for value in settings.values() if is_config(value))
    return default


def words(config: PreTrainedConfig, generator: torch.Generator, count: int = WORDS) -> dict[str, Tensor]:
    """One sequence of ordinary words, none of them special, with what an architecture wants to know beside it."""
    rows = config.num_codebooks if config.model_type.startswith("musicgen") else 1  # one sequence to each codebook
    ids = torch.randint(10, 100, (rows, count), generator=generator)
    if config.is_encoder_decoder:
        ids[:, -1] = setting(config, "eos_token_id", default=2)  # the encoder-decoder classifiers read the class there
    if config.model_type == "bros":
        return {"input_ids": ids, "bbox": torch.rand(1, count, 4, generator=generator, dtype=torch.float64)}
    return {"input_ids": ids}


def pixels(config: PreTrainedConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """One random image, in the form and size that the configuration asks for."""

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    size = setting(config, "image_size", default=32)
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    channels = setting(config, "num_channels", "in_channels", "in_chans", default=3)
    if config.model_type == "siglip2":
        patches = setting(config, "num_patches")
        side = int(patches**0.5)
        return {
            "pixel_values": noise(1, patches, channels * setting(config, "patch_size") ** 2),
            "pixel_attention_mask": torch.ones(1, patches, dtype=torch.long),
            "spatial_shapes": torch.tensor([[side, side]]),
        }
    if config.model_type == "videoprism":
        return {"pixel_values_videos": noise(1, setting(config, "num_frames"), channels, height, width)}
    if config.model_type.startswith("qwen"):
        merge, frames = setting(config, "spatial_merge_size"), setting(config, "temporal_patch_size")
        side = merge * int(IMAGE_TOKENS[config.model_type] ** 0.5)
        return {
            "pixel_values": noise(side * side, channels * frames * setting(config, "patch_size") ** 2),
            "image_grid_thw": torch.tensor([[1, side, side]]),
        }
    return {"pixel_values": noise(1, channels, height, width)}


def words_around_an_image(config: PreTrainedConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """One sequence of words with the place of an image in it, marked as each architecture marks it."""
    image = setting(config, "image_token_id", "image_token_index")
    start = setting(config, "vision_start_token_id", "boi_token_index")
    end = setting(config, "vision_end_token_id", "eoi_token_index")
    ordinary = words(config, generator)["input_ids"][0].tolist()
    place = [image] * IMAGE_TOKENS[config.model_type]
    if start is not None:
        place = [start, *place, end]
    ids = torch.tensor([ordinary[:2] + place + ordinary[2:]])
    is_image = (ids == image).long()
    if config.model_type.startswith("qwen"):
        return {"input_ids": ids, "mm_token_type_ids": is_image}
    if config.model_type == "gemma3":
        return {"input_ids": ids, "token_type_ids": is_image}
    return {"input_ids": ids}


def tiny_inputs(kind: Kind, config: PreTrainedConfig, seed: int = 0) -> dict[str, Tensor]:
    """Random inputs of one kind for a model with this configuration."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "text":
        return words(config, generator)
    if kind == "text to text":
        decoder = words(config, generator, WORDS // 2)["input_ids"] if config.is_encoder_decoder else None
        return words(config, generator) | ({} if decoder is None else {"decoder_input_ids": decoder})
    if kind == "image":
        return pixels(config, generator)
    if kind == "image and text":
        return words(config, generator) | pixels(config, generator)
    return words_around_an_image(config, generator) | pixels(config, generator)
