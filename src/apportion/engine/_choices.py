"""Choices: the methods and measures used by default, and methods by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from apportion.core import ApportionError
from apportion.methods import AnyMethod, Method, as_method, method_names, required_options

#: The default methods of `compare`: one or more of each kind that runs within seconds.
COMPARED = (
    "attnlrp",
    "cp-lrp",
    "input-x-gradient",
    "integrated-gradients",
    "gradient",
    "alti-logit",
    "rollout",
    "leave-one-out",
)

#: The default measures of `evaluate`.
MEASURED = ("perturbation-curves", "comprehensiveness-sufficiency", "leave-one-out-agreement", "ground-truth")

AnyMethods = Sequence[AnyMethod] | Mapping[str, AnyMethod] | Literal["all"]
"""Several methods: names, methods or composites; a mapping from your own names to these; or `"all"` for all methods
that need no options."""

Positions = Literal["apart", "added"]
"""Whether shares of learned position embeddings stand apart or are added to their tokens."""


def named_methods(methods: AnyMethods) -> dict[str, Method]:
    """Methods by their names in the result.

    Raises:
        ApportionError: There are none, one is not known, or two have the same name.
    """
    if methods == "all":
        methods = [name for name in method_names() if not required_options(name)]
    elif isinstance(methods, str):
        methods = [methods]
    if not methods:
        raise ApportionError("methods is empty; name some, or leave it out.")
    if isinstance(methods, Mapping):
        return {name: as_method(method) for name, method in methods.items()}
    named: dict[str, Method] = {}
    for one in methods:
        method = as_method(one)
        label = one if isinstance(one, str) else method.name
        if label in named:
            raise ApportionError(
                f"two methods are called {label!r}; give them names of their own: methods={{'mine': …, 'other': …}}."
            )
        named[label] = method
    return named


def check_positions(positions: str) -> None:
    """Reject an unknown choice of `positions`."""
    if positions not in get_args(Positions):
        raise ApportionError(f"positions={positions!r} is not known; use 'apart' or 'added'.")
