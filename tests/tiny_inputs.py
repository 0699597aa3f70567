"""Complete random inputs for a tiny model, so that `model(**inputs)` runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from tests.tiny_configs import is_config

Kind = Literal["text", "text to text", "image", "image to text", "image and text", "image in text"]
"""What goes in: words; words and the words so far; pixels; pixels and the words so far; pixels beside a caption; pixels
among the words."""

WORDS = 12


@dataclass(frozen=True, kw_only=True)
class Picture:
    """How an architecture takes one image.

    Args:
        tokens: How many words it takes up.
        shapes: Shape of its pixels, by the name of the input, where it is not `pixel_values` of (1, channels, height,
            width): tiles, frames, or patches in one row.
        numbered: Whether each patch begins with its row and its column.
        marks: Name of the input that says which words are the image's, if there is one.
        beside: What else goes in, such as the grid of the patches.
    """

    tokens: int = 0
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    numbered: bool = False
    marks: str | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)


def in_grid(width: int, **beside: Any) -> Picture:
    """4 x 4 patches of so many numbers in one row, of which each 2 x 2 become one word."""
    shapes = {"pixel_values": (16, width)}
    return Picture(tokens=4, shapes=shapes, marks="mm_token_type_ids", beside={"image_grid_thw": [[1, 4, 4]], **beside})


def in_tiles(tokens: int, tiles: int = 1, **beside: Any) -> Picture:
    """Images of 32 x 32 pixels with an axis of tiles in front."""
    return Picture(tokens=tokens, shapes={"pixel_values": (1, tiles, 3, 32, 32)}, beside=beside)


PATCH = 3 * 8 * 8
TWO_FRAMES = in_grid(2 * PATCH)
ONE_FRAME = in_grid(PATCH)
UNMARKED = Picture(tokens=4, shapes=TWO_FRAMES.shapes, beside=TWO_FRAMES.beside)
ONE_STRIP = Picture(tokens=1, shapes={"pixel_values": (1, 3, 8, 16 * 8)}, beside={"target_sizes": [[4, 4]]})
FOUR_TILES = Picture(
    shapes={"pixel_values": (1, 1, 4, 3, 32, 32)},
    beside={"aspect_ratio_ids": [[6]], "aspect_ratio_mask": [[[1] * 4]]},
)
SQUARE = {"image_sizes": [[32, 32]]}
TOKENS_WITH_NEWLINES = 16 + 4 * (4 + 1)  # the whole image, and again its only tile, row by row
ROW = Picture(
    tokens=4,
    shapes={"pixel_values": (1, 16, PATCH)},
    beside={"pixel_attention_mask": [[1] * 16], "spatial_shapes": [[4, 4]]},
)
NUMBERED = {"flattened_patches": (1, 16, 2 + 768)}  # a width of its own, whatever the size of a patch
BOXES = {"bbox": [[[0.1, 0.2, 0.3, 0.4]] * WORDS]}

PICTURES: Mapping[str, Picture] = {
    **dict.fromkeys(("llava", "vipllava", "deepseek_vl", "janus", "paligemma", "video_llava"), Picture(tokens=16)),
    **dict.fromkeys(("ovis2",), Picture(tokens=16)),
    **dict.fromkeys(("gemma3", "shieldgemma2"), Picture(tokens=4, marks="token_type_ids")),
    **dict.fromkeys(
        ("aria", "aya_vision", "cohere2_vision", "internvl", "qianfan_ocr", "llama4", "chameleon"), Picture(tokens=4)
    ),
    "t5gemma2": Picture(tokens=4),
    "blip-2": Picture(tokens=4, beside={"attention_mask": [[1] * (4 + WORDS)]}),
    **dict.fromkeys(("got_ocr2", "pp_chart2table", "step3p7"), Picture(tokens=1)),
    "florence2": Picture(tokens=17),
    "instructblip": Picture(tokens=4, beside={"qformer_input_ids": [[11, 12, 13]]}),
    "instructblipvideo": in_tiles(8, 2, qformer_input_ids=[[11, 12, 13]]),
    **dict.fromkeys(("mistral3", "lighton_ocr", "mistral_large4"), Picture(tokens=4, beside=SQUARE)),
    "fuyu": Picture(tokens=16, shapes={"pixel_values": (1, 16, PATCH)}),
    "kosmos-2": Picture(tokens=4, marks="image_embeds_position_mask"),
    "kosmos-2.5": Picture(tokens=4, shapes=NUMBERED, numbered=True, marks="image_embeds_position_mask"),
    "pix2struct": Picture(shapes=NUMBERED, numbered=True),
    **dict.fromkeys(("idefics2", "idefics3", "smolvlm"), in_tiles(4)),
    "granite_docling": in_tiles(4, pixel_attention_mask=[[True]]),
    "idefics": in_tiles(0, image_attention_mask=[[[1]] * WORDS]),
    "inkling_mm_model": Picture(tokens=4, shapes={"pixel_values": (4, 2, 8, 8, 3)}),
    "gemma4_unified": Picture(
        tokens=4,
        shapes={"pixel_values": (1, 4, 4 * PATCH)},
        marks="mm_token_type_ids",
        beside={"image_position_ids": [[[i % 2, i // 2] for i in range(4)]]},
    ),
    "mllama": replace(
        FOUR_TILES, tokens=1, beside={**FOUR_TILES.beside, "cross_attention_mask": [[[[1] * 4]] * (WORDS + 1)]}
    ),
    "mllama_vision_model": FOUR_TILES,
    **dict.fromkeys(("llava_next", "llava_next_video", "llava_onevision"), in_tiles(TOKENS_WITH_NEWLINES, 2, **SQUARE)),
    **dict.fromkeys(("lfm2_vl", "siglip2", "siglip2_vision_model"), ROW),
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"), TWO_FRAMES),
    **dict.fromkeys(("glm4v", "glm46v", "glm4v_moe", "glm_ocr", "glmga", "cosmos3_omni"), TWO_FRAMES),
    **dict.fromkeys(("cohere_compass", "qwen4_exp"), TWO_FRAMES),
    **dict.fromkeys(("exaone4_5", "hyperclovax_vision_v2", "qwen2_5_omni_thinker"), UNMARKED),
    **dict.fromkeys(("qwen3_omni_moe_thinker", "minimax_m3_vl", "lfm3_vl", "muse_glimmer", "muse_spark"), UNMARKED),
    "video_llama_3": Picture(
        tokens=4,
        shapes=ONE_FRAME.shapes,
        beside={"image_grid_thw": [[1, 4, 4]], "image_merge_sizes": [2]},
    ),
    **dict.fromkeys(("ernie4_5_vl_moe", "cosmos3_edge"), ONE_FRAME),
    "hunyuan_vl": replace(ONE_FRAME, tokens=2 * (2 + 1) + 2),  # each row has an end, and so has the image
    "paddleocr_vl": replace(ONE_FRAME, shapes={"pixel_values": (16, 3, 8, 8)}),
    "minicpm_ocr": replace(ONE_STRIP, tokens=4),
    "minicpmv4_6": ONE_STRIP,
    "minicpmv4_7": replace(ONE_STRIP, marks="mm_token_type_ids"),
    "gemma4": Picture(
        tokens=4,
        shapes={"pixel_values": (1, 16, PATCH)},
        marks="mm_token_type_ids",
        beside={"image_position_ids": [[[i % 4, i // 4] for i in range(16)]]},
    ),
    "deepseek_vl_hybrid": Picture(
        tokens=16, shapes={"pixel_values": (1, 3, 32, 32), "high_res_pixel_values": (1, 3, 32, 32)}
    ),
    "kimi_k25": replace(UNMARKED, shapes={"pixel_values": (16, 3, 8, 8)}),
    "videoprism": Picture(shapes={"pixel_values_videos": (1, 2, 3, 32, 32)}),
    "vit_mae": Picture(beside={"noise": [[i / 16 for i in range(16)]]}),  # which patches are left out
    "udop": Picture(beside=BOXES),
}
"""The picture of each architecture that needs more than (1, channels, height, width), by model type."""


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


def caption(config: PreTrainedConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """Words as above that end with the text's end token, where there is one: CLIP's text tower reads it alone."""
    inputs = words(config, generator)
    end = setting(config, "eos_token_id")
    if end is not None:
        inputs["input_ids"][:, -1] = end
    return inputs


def pixels(config: PreTrainedConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """One random image, in the form and size that the configuration asks for."""

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    picture = PICTURES.get(config.model_type, Picture())
    size = setting(config, "image_size", default=32)
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    channels = setting(config, "num_channels", "in_channels", "in_chans", default=3)
    shapes = picture.shapes or {"pixel_values": (1, channels, height, width)}
    images = {name: noise(*shape) for name, shape in shapes.items()}
    if picture.numbered:
        for patches in images.values():
            patches[..., 0] = torch.arange(patches.shape[-2]) // 4 + 1
            patches[..., 1] = torch.arange(patches.shape[-2]) % 4 + 1
    return images | {name: torch.tensor(value) for name, value in picture.beside.items()}


def words_around_an_image(config: PreTrainedConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """One sequence of words with the place of an image in it, marked as each architecture marks it."""
    picture = PICTURES.get(config.model_type, Picture())
    image = setting(config, "image_token_id", "image_token_index", default=100)
    start = setting(config, "vision_start_token_id", "boi_token_index")
    end = setting(config, "vision_end_token_id", "eoi_token_index")
    ordinary = words(config, generator)["input_ids"][0].tolist()
    place = [image] * picture.tokens
    if start is not None:
        place = [start, *place, end]
    ids = torch.tensor([ordinary[:2] + place + ordinary[2:]])
    is_image = (ids == image).long()
    return {"input_ids": ids} | ({} if picture.marks is None else {picture.marks: is_image})


def tiny_inputs(kind: Kind, config: PreTrainedConfig, seed: int = 0) -> dict[str, Tensor]:
    """Random inputs of one kind for a model with this configuration."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "text":
        return words(config, generator)
    so_far: dict[str, Tensor] = {}
    if config.is_encoder_decoder and kind in ("text to text", "image in text", "image to text"):
        so_far = {"decoder_input_ids": words(config, generator, WORDS // 2)["input_ids"]}
    if kind == "text to text":
        return words(config, generator) | so_far
    if kind in ("image", "image to text"):
        return pixels(config, generator) | so_far
    if kind == "image and text":
        return caption(config, generator) | pixels(config, generator)
    return words_around_an_image(config, generator) | pixels(config, generator) | so_far
