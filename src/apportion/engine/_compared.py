"""Comparing: one prompt divided by several methods, from one forward pass."""

from __future__ import annotations

from typing import Any

from apportion.core import ApportionError
from apportion.engine._choices import COMPARED, AnyMethods, named_methods
from apportion.engine._engine import Engine
from apportion.models.inputs import AnyRegions
from apportion.results import Comparison
from apportion.targets import AnyTarget


def compared(
    engine: Engine,
    prompt: Any,
    targets: list[AnyTarget],
    *,
    methods: AnyMethods = COMPARED,
    regions: AnyRegions = "patches",
    progress: bool = False,
) -> Comparison:
    """Explain one prompt by several methods, as in `Explainer.compare`; those that fail are noted.

    Raises:
        ApportionError: The request does not fit, or no method supports it.
    """
    chosen, refused = named_methods(methods), dict[str, ApportionError]()
    one = engine.prompt(prompt, regions, what="compare")
    (found,), shared = engine.attributions([one], chosen, targets, progress=progress, refused=refused)
    if not found:
        raise next(iter(refused.values()))
    return Comparison(attributions=found, refused=refused, shared=shared)
