"""The vision benchmark's model: a ViT-B/16 with random weights, the same in every process.

Captum's environment has this one's torch and transformers, so both make the same model from the same seed.
"""

from functools import cache

import torch
from torch import Tensor
from transformers import ViTConfig, ViTForImageClassification

SIDE = 224


@cache
def random_vit(attention: str = "sdpa", *, seed: int = 0) -> ViTForImageClassification:
    """A frozen ViT-B/16 for images of 224 × 224 in float32, with 1,000 classes: 86 million parameters."""
    torch.manual_seed(seed)
    config = ViTConfig(num_labels=1000, attn_implementation=attention)
    return ViTForImageClassification(config).float().eval().requires_grad_(False)


def random_images(batch: int) -> Tensor:
    """The same images in every process."""
    return torch.randn(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(batch))
