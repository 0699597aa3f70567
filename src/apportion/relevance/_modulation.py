"""Modulation: scales, shifts and gates that diffusion transformers compute from time step and pooled prompt."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase

from torch import nn

from apportion.core import ApportionError
from apportion.relevance._composite import Composite, Override

#: Patterns of the paths of the layers that compute them.
LAYERS = ("*norm*.linear", "proj_out_1", "adaln_single*linear*", "time_embed*linear*", "*_mod.1")


def modulation_held(composite: Composite, transformer: nn.Module) -> Composite:
    """The composite with the modulation of one of diffusers' transformers held constant.

    Otherwise the rule for products sends half of the relevance to time step and pooled prompt at each multiplication,
    until little is left for words and patches. Shifts have a line of their own in the ledger, "held constant".

    Raises:
        ApportionError: No layer is known to compute the modulation.
    """
    linear = [path for path, module in transformer.named_modules() if isinstance(module, nn.Linear)]
    patterns = [pattern for pattern in LAYERS if any(fnmatchcase(path, pattern) for path in linear)]
    if not patterns:
        raise ApportionError(
            f"no layer of {type(transformer).__name__} is known to compute its modulation; hold those layers constant "
            "yourself (Composite.within with linear='cut'), or use the composite as it is."
        )
    held = replace(composite, name="modulation constant", linear="cut", overrides=())
    overrides = (Override(composite=held, modules=pattern) for pattern in patterns)
    return replace(composite, overrides=(*composite.overrides, *overrides))


def is_diffusion_transformer(model: nn.Module) -> bool:
    """Whether a model is one of diffusers'."""
    return type(model).__module__.startswith("diffusers.")
