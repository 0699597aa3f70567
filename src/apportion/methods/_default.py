"""The default method: AttnLRP, with ResLRP's rule for residual sums where a model processes images."""

from __future__ import annotations

from torch import nn

from apportion.methods._method import Method
from apportion.methods.backward import AttnLRP, Propagation, ResLRP
from apportion.relevance import ATTNLRP, is_diffusion_transformer, modulation_held, vision_tower


def default_method(model: nn.Module, *, pixels: bool) -> Method:
    """AttnLRP for text; ResLRP for images, only in the vision tower of a model that also reads text.

    For diffusion transformers, AttnLRP with their modulation held constant.

    Args:
        model: The model to explain.
        pixels: Whether relevance is propagated to an image's pixels.

    Source:
        Berend, Achtibat et al. 2026: in models of images and text the rule belongs to the vision tower's residuals.
    """
    if is_diffusion_transformer(model):
        return Propagation(modulation_held(ATTNLRP, model))
    tower = vision_tower(model) if pixels else None
    if tower is None:
        return AttnLRP()
    return ResLRP() if tower == "*" else ResLRP(modules=tower)
