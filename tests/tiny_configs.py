"""Make the configuration of any transformers architecture small: fewer and narrower layers, the same computation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig

from tests.tiny_overrides import OVERRIDES

VOCABULARY = 128
"""Word ids are drawn from 10..99, so that the ids from 100 on are free for special tokens."""

COUNTS: Mapping[str, int] = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_decoder_layers", "encoder_num_layers"), 2),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts"), 1),
    **dict.fromkeys(("num_dense_layers", "first_k_dense_replace"), 1),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input", "encoder_vocab_size"), VOCABULARY),
}
"""Largest number of layers, experts and words, by the name that a configuration gives it."""

HEAD_DIMS: Mapping[str, int] = dict.fromkeys(("head_dim", "global_head_dim", "d_kv", "kv_channels"), 16)

WIDTHS: Mapping[str, int] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "embedding_size", "embed_dim", "hidden_dim"), 64),
    **dict.fromkeys(("d_embed", "emb_dim", "word_embed_proj_dim", "out_hidden_size", "lm_head_dim", "lru_width"), 64),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "d_ff", "ffn_hidden_size", "ffn_hidden"), 96),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "mlp_dim", "intermediate_dim"), 96),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "projection_dim"), 32),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "num_key_value_groups"), 2),
    **HEAD_DIMS,
    "qk_head_dim": 32,
    "q_lora_rank": 32,
    **dict.fromkeys(("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"), 16),
    "rotary_dim": 8,
    "hidden_size_per_layer_input": 16,
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "mamba_d_state", "state_size", "chunk_size"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "linear_key_head_dim", "linear_value_head_dim"), 16),
    **dict.fromkeys(("mamba_n_groups", "n_groups"), 1),
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "index_n_heads": 2,
    "index_head_dim": 32,
    "index_topk": 8,
    "attention_window": 8,
    "dense_attention_every_n_layers": 2,
    "image_size": 32,
    "patch_size": 8,
}
"""Largest width, by the name that a configuration gives it; heads and head width agree with the model's width."""

LAYER_KINDS = frozenset({"layer_types", "mlp_layer_types"})
"""Lists with the kind of each layer that a configuration fills in itself when they are left out."""

OTHER_LISTS_BY_LAYER = frozenset(
    {"layers_block_type", "block_types", "no_rope_layers", "attention_types", "indexer_types", "moe_layers"}
)

SPECIAL_TOKENS: Mapping[str, int] = {
    "image_token_id": 100,
    "image_token_index": 100,
    "video_token_id": 101,
    "video_token_index": 101,
    "vision_start_token_id": 102,
    "vision_end_token_id": 103,
    "boi_token_index": 104,
    "eoi_token_index": 105,
    "audio_token_id": 106,
    "audio_token_index": 106,
}
"""Ids for the special tokens whose id lies beyond the small vocabulary; the others share `OTHER_SPECIAL_TOKEN`."""

OTHER_SPECIAL_TOKEN = 120


@dataclass(frozen=True, kw_only=True)
class Shrinking:
    """One way to make a configuration small.

    Args:
        widths: Whether widths are cut as well as counts.
        untouched: Names that keep the value which the configuration gives them by itself.
    """

    widths: bool = True
    untouched: frozenset[str] = frozenset()


SHRINKINGS = (
    Shrinking(),
    Shrinking(untouched=frozenset({"head_dim"})),
    Shrinking(untouched=LAYER_KINDS | {"head_dim", "global_head_dim"}),
    Shrinking(untouched=LAYER_KINDS),
    Shrinking(widths=False),
)
"""From the smallest on; an architecture is built with the first that gives a model which runs."""


def small_token_id(name: str, value: Any) -> Any:
    """The id, or ids, of the special token `name`, brought into the small vocabulary."""
    if isinstance(value, list):
        return [small_token_id(name, entry) for entry in value]
    if isinstance(value, int) and value >= 100:
        return SPECIAL_TOKENS.get(name, OTHER_SPECIAL_TOKEN)
    return value


def first_kinds(kinds: list[Any], count: int) -> list[Any]:
    """The first `count` different entries, in order, filled up from the start where there are fewer."""
    different = [kind for index, kind in enumerate(kinds) if kind not in kinds[:index]]
    return (different + kinds)[:count]


def is_config(value: Any) -> bool:
    """Whether this entry of a configuration is itself a configuration."""
    return isinstance(value, dict) and "model_type" in value


def smaller(settings: Mapping[str, Any], shrinking: Shrinking) -> dict[str, Any]:
    """Those settings that `shrinking` limits, with their new values."""
    limits = {**COUNTS, **WIDTHS} if shrinking.widths else COUNTS
    several_lists = len(LAYER_KINDS & settings.keys()) > 1 or bool(OTHER_LISTS_BY_LAYER & settings.keys())
    changes: dict[str, Any] = {}
    for name, value in settings.items():
        if name in shrinking.untouched:
            continue
        if is_config(value):
            changes[name] = {"model_type": value["model_type"], **smaller(value, shrinking)}
        elif name.endswith(("_token_id", "_token_index")):
            changes[name] = small_token_id(name, value)
        elif name in limits and isinstance(value, int) and value is not True and value > 0:
            changes[name] = min(limits[name], value)
        elif isinstance(value, list) and is_by_layer(name, value, settings):
            changes[name] = value[:2] if several_lists and name != "layer_types" else first_kinds(value, 2)
    agree(changes, settings, shrinking)
    return changes


def is_by_layer(name: str, value: list[Any], settings: Mapping[str, Any]) -> bool:
    """Whether a list has one entry for each layer."""
    named = name in LAYER_KINDS | OTHER_LISTS_BY_LAYER
    return len(value) > 2 and (named or len(value) == settings.get("num_hidden_layers"))


def agree(changes: dict[str, Any], settings: Mapping[str, Any], shrinking: Shrinking) -> None:
    """Fill in the sizes that a configuration derives from others, where the derived one would not fit."""
    if not shrinking.widths:
        return
    if "kv_lora_rank" in settings and "num_key_value_heads" in settings:  # latent attention shares no heads
        changes["num_key_value_heads"] = changes.get("num_attention_heads", 4)
    if "head_dim" not in shrinking.untouched and settings.get("head_dim", 0) is None:
        changes["head_dim"] = HEAD_DIMS["head_dim"]
    if settings.get("num_key_value_heads", 0) is None:
        changes["num_key_value_heads"] = WIDTHS["num_attention_heads"]


def merged(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with `overrides` put in, also inside nested configurations."""
    result = dict(settings)
    for name, value in overrides.items():
        nested = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = merged(result[name], value) if nested else value
    return result


def tiny_config(
    config_class: type[PreTrainedConfig], shrinking: Shrinking, *, causal: bool = False
) -> PreTrainedConfig:
    """A small configuration of one architecture, told to be a decoder if it is to be `causal` and has the choice."""
    settings = config_class().to_dict()
    changes = merged(smaller(settings, shrinking), OVERRIDES.get(config_class.model_type, {}))
    if causal and "is_decoder" in settings:
        changes["is_decoder"] = True
    return config_class(**changes)
