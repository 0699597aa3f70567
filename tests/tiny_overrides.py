"""What single architectures need to become small, beyond the rules of `tiny_configs`.

Most name the layers to keep, so that two layers still show both kinds of a hybrid model; some set sizes that have
their own name or must fit each other; the last are settings without which the default configuration gives no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ROTARY = {"rope_type": "default", "rope_theta": 10000.0}
ROTARY_BY_AXIS = {**ROTARY, "mrope_section": [2, 3, 3]}  # time, height and width share the half head of 8
ROTARY_BY_AXIS_OF_HALF = {**ROTARY, "partial_rotary_factor": 0.5, "mrope_section": [1, 1, 2]}
QWEN_TEXT = {"rope_parameters": ROTARY_BY_AXIS}
NO_CACHE = {"use_cache": False}  # these overwrite their state, which a backward pass would need
QUERIES = {"num_query_tokens": 4, "qformer_config": {"encoder_hidden_size": 64}}
MLLAMA_VISION = {
    "num_global_layers": 1,
    "intermediate_layers_indices": [0],
    "vision_output_dim": 128,
    "attention_heads": 4,
}
LLAMA4_VISION = {
    "intermediate_size": 256,
    "vision_output_dim": 64,
    "projector_input_dim": 64,
    "projector_output_dim": 64,
}
GLM = {"text_config": QWEN_TEXT}
IN_PAIRS = {"vision_config": {"image_size": [32, 32], "patch_size": [8, 8]}}
FOUR_TIMES_64 = {"out_hidden_size": 256}
ONE_TILE = {"image_grid_pinpoints": [[32, 32]]}
OWN_TOKEN, OWN_TOKEN_ID = {"image_token_index": 100}, {"image_token_id": 100}
GEMMA3 = {"mm_tokens_per_image": 4}

OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    # Hybrid models: one layer of each kind.
    "bamba": {"attn_layer_indices": [1]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "intermediate_size": 96, "window_size": 4},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"], "shared_intermediate_size": 32},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "mamba_dt_rank": 8,
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "nemo_speechlm": {
        "audio_config": {
            "asr_config": {"num_key_value_heads": 4},
            "diarization_config": {
                "audio_config": {"num_key_value_heads": 4},
                "head_config": {"audio_hidden_size": 64},
            },
        },
        "word_timestamp_config": {"num_key_value_heads": 4},
        "text_config": {"layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"]},
    },
    "nemotron_h": {
        "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"],
        "ssm_state_size": 8,
        "moe_shared_expert_intermediate_size": 32,
    },
    "qwen4_exp_text": {
        "layer_types": ["linear_attention", "indexed_attention"],
        "num_key_value_heads": 2,
        "hc_lowrank": 8,
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
    },
    "recurrent_gemma": {"num_hidden_layers": 3, "block_types": ["recurrent", "recurrent", "attention"]},
    "reformer": {
        "attn_layers": ["local", "lsh"],
        "attention_head_size": 16,
        "feed_forward_size": 96,
        "axial_pos_shape": [4, 8],
        "axial_pos_embds_dim": [16, 48],
        "max_position_embeddings": 32,
        "local_attn_chunk_length": 4,
        "lsh_attn_chunk_length": 4,
        "num_buckets": 2,
        "hash_seed": 0,
    },
    "zamba": {
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "attention_hidden_size": 128,
        "attention_head_dim": 32,
        "num_key_value_heads": 4,
        "mamba_dt_rank": 8,
    },
    "zamba2": {
        "layers_block_type": ["linear_attention", "hybrid"],
        "hybrid_layer_ids": [1],
        "attention_hidden_size": 128,
        "attention_head_dim": 32,
        "num_key_value_heads": 4,
        "num_query_groups": 4,
        "mamba_headdim": 16,
        "adapter_rank": 8,
    },
    # Layers that share their keys and values with an earlier layer of their kind.
    "gemma3n_text": {
        "num_hidden_layers": 4,
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "intermediate_size": [96] * 4,
        "activation_sparsity_pattern": [0.5, 0.0] * 2,
        "laurel_rank": 8,
    },
    # Sizes under names of their own, or that must fit each other.
    "align": {
        "vision_config": {
            "width_coefficient": 0.5,
            "depth_coefficient": 0.3,
            "hidden_dim": 640,
            "num_block_repeats": [1] * 7,
        },
        "projection_dim": 160,
    },
    "blt": {
        "vocab_size": 260,
        "num_hidden_layers": 2,
        "encoder_hash_byte_group_vocab": 101,
        "encoder_hash_byte_group_size": [3, 4],
        "encoder_config": {"vocab_size": 260, "hidden_size_global": 64, "num_key_value_heads": 4},
        "decoder_config": {"vocab_size": 260, "hidden_size_global": 64, "num_key_value_heads": 4},
        "global_config": {"num_key_value_heads": 4},
        "patcher_config": {"vocab_size": 260, "num_key_value_heads": 4},
    },
    "efficientnet": {"width_coefficient": 0.5, "depth_coefficient": 0.3, "hidden_dim": 640},
    "esmc": {"num_key_value_heads": 4, "vocab_size": 128},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3": GEMMA3,
    "shieldgemma2": {**GEMMA3, "yes_token_index": 10, "no_token_index": 11},
    "inkling2_text": {"swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 16, "rel_extent": 16},
    "longcat_flash": {"expert_ffn_hidden_size": 32, "zero_expert_num": 2},
    "luke": {"entity_vocab_size": 16, "entity_emb_size": 16},
    "mamba2": {"num_heads": 8},
    "perceiver": {
        "d_latents": 64,
        "num_latents": 8,
        "num_self_attends_per_block": 2,
        "num_self_attention_heads": 4,
        "num_cross_attention_heads": 4,
    },
    "levit": {"image_size": 64, "hidden_sizes": [32, 48, 64], "num_attention_heads": [2, 3, 4], "depths": [1, 1, 1]},
    "donut-swin": {"embed_dim": 24, "depths": [1, 1], "num_heads": [2, 4], "patch_size": 4, "window_size": 4},
    "swin": {"embed_dim": 24, "depths": [1, 1], "num_heads": [2, 4], "patch_size": 4, "window_size": 4},
    "qwen2_vl": {"text_config": QWEN_TEXT},
    "qwen2_5_vl": {"text_config": QWEN_TEXT, "vision_config": {"window_size": 16, "fullatt_block_indexes": [1]}},
    "qwen3_vl": {
        "text_config": QWEN_TEXT,
        "vision_config": {"deepstack_visual_indexes": [0], "num_position_embeddings": 64},
    },
    "qwen3_vl_moe": {
        "text_config": QWEN_TEXT,
        "vision_config": {"deepstack_visual_indexes": [0], "num_position_embeddings": 64},
    },
    **dict.fromkeys(("glm4v", "glm46v", "glmga", "glm_ocr"), GLM),
    "glm4v_moe": {"text_config": {"rope_parameters": ROTARY_BY_AXIS_OF_HALF}},
    "rwkv": NO_CACHE,
    "siglip2_vision_model": {"num_patches": 16},
    "swin2sr": {"embed_dim": 24, "depths": [1, 1], "num_heads": [2, 2], "patch_size": 1, "window_size": 4},
    "siglip2": {"text_config": {"projection_size": 64}, "vision_config": {"num_patches": 16}},
    "videoprism": {
        "vision_config": {
            "num_frames": 2,
            "tubelet_size": [1, 8, 8],
            "num_spatial_layers": 2,
            "num_temporal_layers": 2,
            "num_auxiliary_layers": 1,
        }
    },
    "vibevoice_asr": {
        "acoustic_tokenizer_encoder_config": {"num_filters": 2, "depths": [1] * 7},
        "semantic_tokenizer_encoder_config": {"num_filters": 2, "depths": [1] * 7},
    },
    "xglm": {"attention_heads": 4},
    "textnet": {"image_size": [64, 64]},
    "xlstm": {"embedding_dim": 64, "num_blocks": 2, "qk_dim_factor": 1.0, **NO_CACHE},
    # Images: grids, tiles and queries that go with an image of 32 x 32 pixels.
    "aria": {"projector_patch_to_query_dict": {16: 4}, "max_value_projector_patch_to_query_dict": 4},
    "florence2": {
        "vision_config": {
            "projection_dim": 64,
            "depths": [1, 1],
            "embed_dim": [16, 32],
            "num_heads": [2, 4],
            "num_groups": [2, 4],
            "window_size": 4,
            "patch_size": [7, 3],
            "patch_stride": [4, 2],
            "patch_padding": [3, 1],
            "patch_prenorm": [False, True],
        },
    },
    **dict.fromkeys(("minicpm_ocr", "minicpmv4_6", "minicpmv4_7"), OWN_TOKEN_ID),
    "cohere_compass": {"text_config": {"rope_parameters": {"full_attention": ROTARY}}},
    "cosmos3_edge": {
        "image_token_id": 100,
        "video_token_id": 101,
        "vision_start_token_id": 102,
        "vision_end_token_id": 103,
        "text_config": QWEN_TEXT,
        "vision_config": {"num_patches": 16},
    },
    "gemma4": {
        "text_config": {"per_layer_config": {}},
        "vision_config": {
            "model_type": "gemma4_vision",
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": 16,
            "pooling_kernel_size": 2,
            "patch_size": 8,
            "position_embedding_size": 16,
        },
    },
    "granite_docling": {"vision_config": {"deepstack_visual_indexes": [0], "use_fine_route": False, "scale_factor": 2}},
    "janus": {
        "vision_config": {"projection_dim": 64},
        "vq_config": {"base_channels": 32, "projection_dim": 64, "image_token_embed_dim": 64},
    },
    "kimi_k25": {"projection_hidden_size": 64},
    "paligemma": {"projection_dim": 64},
    "qwen2_5_omni_thinker": {
        "text_config": QWEN_TEXT,
        "vision_config": {"window_size": 16, "fullatt_block_indexes": [1]},
    },
    "t5gemma2": {"encoder": GEMMA3},
    "vision-encoder-decoder": {"decoder": {"is_decoder": True, "add_cross_attention": True}},
    "hunyuan_vl": {"text_config": {"rope_parameters": {**ROTARY, "mrope_section": [2, 2, 2, 2]}}},
    "vipllava": {"vision_feature_layers": [-1, -2]},
    "deepseek_vl_hybrid": {"high_res_vision_config": {"global_attn_indexes": [0]}},
    "ernie4_5_vl_moe": {
        "text_config": {
            "rope_parameters": {**ROTARY, "mrope_section": [2, 2, 4]},
            "moe_intermediate_size": [32, 16],
            "moe_num_experts": 4,
            "mlp_layer_types": ["dense", "sparse"],
        }
    },
    "gemma4_unified": {
        "text_config": {"per_layer_config": {}},
        "vision_config": {
            "model_type": "gemma4_unified_vision",
            "mm_embed_dim": 64,
            "mm_posemb_size": 16,
            "output_proj_dims": 64,
            "pooling_kernel_size": 2,
            "patch_size": 8,
        },
    },
    "step3p7": {"text_config": {"sliding_window": 8}},
    "chameleon": {
        "image_token_id": 100,
        "vocabulary_map": {"<image>": 100, **{f"IMGIMG{'ABCDEFGH'[code]}Z": 110 + code for code in range(8)}},
        "vq_config": {"num_embeddings": 8, "base_channels": 32, "resolution": 32, "latent_channels": 32},
    },
    **dict.fromkeys(("muse_glimmer", "muse_spark"), FOUR_TIMES_64),
    "idefics": {"alpha_initializer": "ones"},
    "idefics2": {"perceiver_config": {"resampler_n_latents": 4, "resampler_depth": 1, "resampler_head_dim": 16}},
    "instructblip": {**QUERIES, "image_token_index": 100},
    "instructblipvideo": {**QUERIES, "video_token_index": 100},
    **dict.fromkeys(("internvl", "qianfan_ocr"), IN_PAIRS),
    "kosmos-2": {"latent_query_num": 4, "text_config": {"layers": 2, "embed_dim": 64, "attention_heads": 4}},
    "kosmos-2.5": {"latent_query_num": 4, "text_config": {"layers": 2, "embed_dim": 64, "attention_heads": 4}},
    "llama4": {"vision_config": LLAMA4_VISION},
    "llama4_vision_model": LLAMA4_VISION,
    "pp_formulanet": {"vision_config": {"decoder_hidden_size": 64}},
    **dict.fromkeys(("llava_next", "llava_next_video", "llava_onevision"), ONE_TILE),
    **dict.fromkeys(("mistral3", "mistral_large4"), OWN_TOKEN),
    "mllama": {"vision_config": MLLAMA_VISION, "text_config": {"cross_attention_layers": [1]}},
    "mllama_vision_model": MLLAMA_VISION,
    "ovis2": {"visual_indicator_token_ids": [110, 111, 112, 113, 114]},
    # Settings that the default configuration lacks or gets wrong.
    "blip-2": {
        "num_query_tokens": 4,
        "image_token_index": 100,
        "qformer_config": {"use_qformer_text_input": True, "encoder_hidden_size": 64},
    },
    "cohere_compass_text": {"rope_parameters": {"full_attention": ROTARY}},
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "clip_qkv": 8.0}},
    "deepseek_v2": {"num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1},
    "dots1": {
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
    },
    "esm": {"vocab_size": 128, "pad_token_id": 1, "mask_token_id": 100},
    "t5": {"decoder_start_token_id": 0},
    "xmod": {"default_language": "en_XX"},
}
"""Settings by model type; nested where a configuration holds another."""
