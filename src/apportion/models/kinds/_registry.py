"""The registry: kinds of model by name, and which one a model is of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from apportion.core import ApportionError
from apportion.models.kinds._kind import Kind

KINDS: dict[str, Kind] = {}

K = TypeVar("K", bound=type[Kind])


def register_kind(name: str) -> Callable[[K], K]:
    """Make a kind of model known by name.

    Args:
        name: In lower case with hyphens, as results show it.

    Raises:
        ApportionError: The name is taken by another class.
    """

    def add(cls: K) -> K:
        taken = KINDS.get(name)
        if taken is not None and (type(taken).__module__, type(taken).__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise ApportionError(f"the kind of model {name!r} is taken by {type(taken).__name__}; choose another name.")
        cls.name = name
        KINDS[name] = cls()
        return cls

    return add


def kind_of_model(model: nn.Module) -> Kind:
    """The kind of a model, by its class or the first one it inherits from that a kind claims; else `"other"`."""
    for parent in type(model).__mro__:
        for kind in KINDS.values():
            if kind.claims(parent.__name__, model):
                return kind
    return KINDS["other"]
