"""Tiny diffusion transformers with random weights, and the inputs of one step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AuraFlowTransformer2DModel,
    CogVideoXTransformer3DModel,
    DiTTransformer2DModel,
    FluxTransformer2DModel,
    LuminaNextDiT2DModel,
    PixArtTransformer2DModel,
    QwenImageTransformer2DModel,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
)
from diffusers.models.embeddings import get_2d_rotary_pos_embed_lumina
from torch import Tensor, nn

TEXT, POOLED, PROMPT = 12, 10, 5
_SIZE: dict[str, Any] = {"num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 2}
_PICTURE: dict[str, Any] = {"sample_size": 8, "patch_size": 2, "in_channels": 4}

Built = tuple[nn.Module, dict[str, Any]]


def _randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def _latents() -> dict[str, Any]:
    return {"hidden_states": _randn(1, 4, 8, 8), "encoder_hidden_states": _randn(1, PROMPT, TEXT)}


def dit() -> Built:
    model = DiTTransformer2DModel(
        **_SIZE, **_PICTURE, out_channels=8, num_embeds_ada_norm=10, norm_type="ada_norm_zero"
    )
    labels = {"timestep": torch.tensor([5]), "class_labels": torch.tensor([3])}
    return model, {"hidden_states": _randn(1, 4, 8, 8), **labels}


def sd3(**options: Any) -> Built:
    model = SD3Transformer2DModel(
        **_SIZE,
        **_PICTURE,
        joint_attention_dim=TEXT,
        caption_projection_dim=16,
        pooled_projection_dim=POOLED,
        out_channels=4,
        pos_embed_max_size=8,
        **options,
    )
    time = torch.tensor([300.0], dtype=torch.float64)
    return model, {**_latents(), "pooled_projections": _randn(1, POOLED), "timestep": time}


def sd35() -> Built:
    return sd3(dual_attention_layers=(0,), qk_norm="rms_norm")


def flux(**options: Any) -> Built:
    model = FluxTransformer2DModel(
        **_SIZE,
        in_channels=4,
        num_single_layers=1,
        joint_attention_dim=TEXT,
        pooled_projection_dim=POOLED,
        axes_dims_rope=(2, 2, 4),
        **options,
    )
    places = torch.zeros(12, 3, dtype=torch.float64)
    places[:, 1], places[:, 2] = torch.arange(12) // 4, torch.arange(12) % 4
    return model, {
        "hidden_states": _randn(1, 12, 4),
        "encoder_hidden_states": _randn(1, PROMPT, TEXT),
        "pooled_projections": _randn(1, POOLED),
        "timestep": torch.tensor([0.3], dtype=torch.float64),
        "img_ids": places,
        "txt_ids": torch.zeros(PROMPT, 3, dtype=torch.float64),
    }


def guided_flux() -> Built:
    model, inputs = flux(guidance_embeds=True)
    return model, {**inputs, "guidance": torch.tensor([3.5], dtype=torch.float64)}


def pixart() -> Built:
    model = PixArtTransformer2DModel(
        **_SIZE,
        **_PICTURE,
        out_channels=8,
        cross_attention_dim=16,
        caption_channels=TEXT,
        use_additional_conditions=False,
        norm_type="ada_norm_single",
    )
    conditions = {"resolution": None, "aspect_ratio": None}
    return model, {**_latents(), "timestep": torch.tensor([5]), "added_cond_kwargs": conditions}


def auraflow() -> Built:
    model = AuraFlowTransformer2DModel(
        **_PICTURE,
        num_mmdit_layers=2,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=TEXT,
        caption_projection_dim=16,
        out_channels=4,
        pos_embed_max_size=16,
    )
    return model, {**_latents(), "timestep": torch.tensor([0.3], dtype=torch.float64)}


def cogvideox() -> Built:
    model = CogVideoXTransformer3DModel(
        **_SIZE,
        in_channels=4,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=TEXT,
        sample_width=8,
        sample_height=8,
        sample_frames=9,
        max_text_seq_length=PROMPT,
    )
    return model, {**_latents(), "hidden_states": _randn(1, 3, 4, 8, 8), "timestep": torch.tensor([5])}


def lumina() -> Built:
    model = LuminaNextDiT2DModel(
        **_PICTURE,
        hidden_size=24,
        num_layers=2,
        num_attention_heads=3,
        num_kv_heads=1,
        multiple_of=16,
        learn_sigma=False,
        cross_attention_dim=TEXT,
    )
    return model, {
        **_latents(),
        "encoder_mask": torch.ones(1, PROMPT, dtype=torch.bool),
        "timestep": torch.tensor([0.3], dtype=torch.float64),
        "image_rotary_emb": get_2d_rotary_pos_embed_lumina(8, 16, 16),
        "cross_attention_kwargs": {},
    }


def sana() -> Built:
    model = SanaTransformer2DModel(
        **_SIZE,
        in_channels=4,
        out_channels=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=TEXT,
        sample_size=8,
        patch_size=1,
    )
    return model, {**_latents(), "timestep": torch.tensor([5])}


def qwen_image() -> Built:
    model = QwenImageTransformer2DModel(
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        in_channels=4,
        out_channels=1,
        joint_attention_dim=TEXT,
        axes_dims_rope=(8, 4, 4),
    )
    return model, {
        "hidden_states": _randn(1, 16, 4),
        "encoder_hidden_states": _randn(1, PROMPT, TEXT),
        "encoder_hidden_states_mask": torch.ones(1, PROMPT, dtype=torch.long),
        "timestep": torch.tensor([0.3], dtype=torch.float64),
        "img_shapes": [(1, 4, 4)],
    }


BUILDERS: dict[str, Callable[[], Built]] = {
    build.__name__: build
    for build in (dit, sd3, sd35, flux, guided_flux, pixart, auraflow, cogvideox, lumina, sana, qwen_image)
}
#: The architectures with joint attention that concepts can ride through.
JOINT = ("sd3", "sd35", "flux", "guided_flux")


def tiny(name: str) -> Built:
    """A model in float64 whose biases, norms and modulation do something, and its inputs."""
    torch.manual_seed(0)
    model, inputs = BUILDERS[name]()
    model = model.double().eval()
    for parameter in model.parameters():
        if parameter.ndim == 1 or not bool(parameter.any()):
            nn.init.normal_(parameter, std=0.3)
    return model, inputs


def single(name: str) -> Built:
    """The same in float32."""
    model, inputs = tiny(name)
    return model.float(), {
        key: value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
        for key, value in inputs.items()
    }
