"""AttnLRP's recipe for vision models: gamma rules where ε would be noisy."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from torch import nn

from apportion.core import ApportionError
from apportion.relevance._composite import ATTNLRP, Composite, Override, layer_index


def attnlrp_vision(model: nn.Module, *, mlp: float = 0.05, patches: float = 0.25) -> Composite:
    """AttnLRP with the γ-rule in a vision transformer's MLPs and its patch convolution, and ε elsewhere.

    The modules are found by structure, not by name: the patch convolution is the first convolution of images, and an
    MLP's maps are the linear layers inside numbered layers but outside attentions.

    Args:
        model: A model with a vision transformer.
        mlp: γ of the MLPs' linear layers.
        patches: γ of the patch convolution.

    Raises:
        ApportionError: The model has no convolution of images, or no MLP in a numbered layer.

    Source:
        Achtibat et al. 2024, arXiv 2402.05602, for ViT-B/16.
    """
    convolutions = [path for path, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Conv3d)]
    if not convolutions:
        raise ApportionError(f"{type(model).__name__} has no convolution of images; use ATTNLRP.")
    tower = _tower(convolutions[0], model)
    linears = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    in_layers = [path for path in linears if layer_index(path) is not None and path.startswith(tower)]
    attentions = [path for path, module in model.named_modules() if "attention" in type(module).__name__.lower()]
    maps = [path for path in in_layers if not any(path.startswith(f"{a}.") for a in attentions)]
    if not maps:
        raise ApportionError(
            f"no linear layer of {type(model).__name__} is in a numbered layer outside its attentions; "
            "name the MLPs yourself: ATTNLRP.within(composite, modules='*.mlp*')."
        )
    in_mlp = replace(ATTNLRP, name=f"γ {mlp:g}", linear="gamma", gamma=mlp)
    at_patches = replace(ATTNLRP, name=f"γ {patches:g}", linear="gamma", gamma=patches)
    overrides = [Override(composite=at_patches, modules=convolutions[0])]
    overrides += [Override(composite=in_mlp, modules=pattern) for pattern in _patterns(maps, linears)]
    return replace(ATTNLRP, name="attnlrp-vision", overrides=tuple(overrides))


def vision_tower(model: nn.Module) -> str | None:
    """A pattern of the paths of the vision tower; `"*"` if that is the whole model, None if there is none.

    It is the smallest part with layers around the first convolution of images or linear map of patches.
    """
    if "pixel_values" not in inspect.signature(model.forward).parameters:
        return None
    if "input_ids" not in inspect.signature(model.forward).parameters:
        return "*"
    first = next((p for p, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Conv3d) or _embeds(p, m)), None)
    tower = "" if first is None else _tower(first, model)
    return f"{tower}*" if tower else None


def _embeds(path: str, module: nn.Module) -> bool:
    """Whether a linear map embeds patches, as in models whose inputs are rows of patches."""
    return isinstance(module, nn.Linear) and "patch_embed" in path


def _tower(convolution: str, model: nn.Module) -> str:
    """The prefix of the vision tower's paths: the smallest part with layers around the convolution."""
    parts = convolution.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        path = ".".join(parts[:depth])
        inside = model.get_submodule(path).named_modules()
        if any(isinstance(module, nn.Linear) and layer_index(name) is not None for name, module in inside):
            return f"{path}."
    return ""


def _patterns(meant: Sequence[str], others: Sequence[str]) -> list[str]:
    """Patterns with a wildcard for the layers' numbers, or the paths themselves if a pattern would match too much."""
    found: list[str] = []
    for path in meant:
        pattern = re.sub(r"(?<=\.)\d+(?=\.)", "*", path, count=1)
        if any(fnmatchcase(other, pattern) and other not in meant for other in others):
            pattern = path
        if pattern not in found:
            found.append(pattern)
    return found
