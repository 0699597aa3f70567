"""Modulation: the scales, shifts and gates that diffusion transformers make of the time step and the pooled prompt."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase

from torch import nn

from apportion.core import ApportionError
from apportion.relevance._composite import Composite

#: The layers that make them, by the names of their paths.
LAYERS = ("*norm*.linear", "proj_out_1", "adaln_single*linear*", "time_embed*linear*", "*_mod.1")


def modulation_held(composite: Composite, transformer: nn.Module) -> Composite:
    """A composite under which modulation is held constant, so that what it multiplies keeps its relevance whole.

    The rule for products would send half of the relevance to time step and pooled prompt at each multiplication, until
    little is left for words and patches. Shifts get a line of the ledger, "held constant".

    Args:
        composite: The rules for everything else.
        transformer: One of diffusers' transformers.

    Raises:
        ApportionError: No layer is known to make its modulation.
    """
    linear = [path for path, module in transformer.named_modules() if isinstance(module, nn.Linear)]
    patterns = [pattern for pattern in LAYERS if any(fnmatchcase(path, pattern) for path in linear)]
    if not patterns:
        raise ApportionError(
            f"no layer of {type(transformer).__name__} is known to make its modulation; hold those layers constant "
            "yourself (Composite.within with linear='cut'), or use the composite as it is."
        )
    held = replace(composite, name="modulation constant", linear="cut", overrides=())
    name = composite.name
    for pattern in patterns:
        composite = composite.within(held, modules=pattern)
    return replace(composite, name=name)


def is_diffusion_transformer(model: nn.Module) -> bool:
    """Whether a model is one of diffusers'."""
    return type(model).__module__.startswith("diffusers.")
