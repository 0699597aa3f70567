"""What a model reads, by the arguments of its forward and its configuration."""

from __future__ import annotations

import inspect

from torch import nn


def reads(model: nn.Module, name: str) -> bool:
    """Whether the model's forward has an argument of this name."""
    return name in inspect.signature(model.forward).parameters


def sees(model: nn.Module) -> bool:
    """Whether a model reads images."""
    return reads(model, "pixel_values")


def image_token(model: nn.Module) -> int | None:
    """The id of the placeholder of an image in a text."""
    config = getattr(model, "config", None)
    found = (getattr(config, name, None) for name in ("image_token_id", "image_token_index"))
    return next((token for token in found if isinstance(token, int)), None)
