"""Choices: what is compared and measured unless told otherwise, and what names of methods stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from apportion.core import ApportionError
from apportion.methods import AnyMethod, Method, as_method, method_names, required_options

#: What `compare` compares unless told otherwise: each way to find shares, within seconds.
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

#: What `evaluate` measures unless told otherwise.
MEASURED = ("perturbation-curves", "comprehensiveness-sufficiency", "leave-one-out-agreement", "ground-truth")

AnyMethods = Sequence[AnyMethod] | Mapping[str, AnyMethod] | Literal["all"]
"""Several methods as users name them: names, methods or composites; names of their own for these; or `"all"` methods
that need no options."""

Positions = Literal["apart", "added"]
"""Whether shares of learned position embeddings stand apart or are added to their tokens."""


def named_methods(methods: AnyMethods) -> dict[str, Method]:
    """Methods by what the result calls them.

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
    """Refuse what is no choice for `positions`.

    Raises:
        ApportionError: It is none.
    """
    if positions not in get_args(Positions):
        raise ApportionError(f"positions={positions!r} is not known; use 'apart' or 'added'.")
