"""Captum's Grad-CAM on a ViT, as a worker in Captum's own environment.

Grad-CAM needs activations with axes of channels, height and width. The patch convolution has them. A block of the
transformer has tokens; so the input of the last block's attention, where Grad-CAM on vision transformers usually
looks, passes through a module that gets its patches in that layout and gives them back.
"""

from importlib.metadata import version

import _llama
import torch
from _vit import random_images, random_vit
from _worker import serve
from captum.attr import LayerGradCam
from torch import Tensor, nn


def grad_cam_cases() -> _llama.Cases:
    """By layer: the patch convolution, and the last block's first norm."""
    model = random_vit()
    grid = nn.Identity()

    def through_grid(module: nn.Module, arguments: tuple[Tensor, ...], tokens: Tensor) -> Tensor:
        patches = tokens[:, 1:].mT
        side = int(patches.shape[-1] ** 0.5)
        patches = grid(patches.unflatten(-1, (side, side))).flatten(2).mT
        return torch.cat([tokens[:, :1], patches], 1)

    model.vit.layers[-1].layernorm_before.register_forward_hook(through_grid)

    def logits(pixels: Tensor) -> Tensor:
        return model(pixel_values=pixels).logits

    def at(layer: nn.Module) -> _llama.Case:
        return lambda images: LayerGradCam(logits, layer).attribute(images, target=0)

    return {
        "captum grad-cam, patches": at(model.vit.embeddings.patch_embeddings.projection),
        "captum grad-cam, last block": at(grid),
    }


if __name__ == "__main__":
    serve(
        grad_cam_cases(),
        versions={package: version(package) for package in ("torch", "transformers", "captum")},
        inputs=random_images,
        warm_up=1,
    )
