"""The registry of kinds of model by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from apportion.core import ApportionError
from apportion.models.kinds._kind import Kind

KINDS: dict[str, Kind] = {}

K = TypeVar("K", bound=type[Kind])


def register_kind(name: str) -> Callable[[K], K]:
    """Register a kind of model under a name in lower case with hyphens, as results show it.

    Raises:
        ApportionError: The name is taken by another class.
    """

    def add(cls: K) -> K:
        taken = KINDS.get(name)
        # By name, since a module may be imported again.
        if taken is not None and _full_name(type(taken)) != _full_name(cls):
            raise ApportionError(f"the kind of model {name!r} is taken by {type(taken).__name__}; choose another name.")
        cls.name = name
        KINDS[name] = cls()
        return cls

    return add


def _full_name(cls: type) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__


def kind_of_model(model: nn.Module) -> Kind:
    """The kind of a model, by its class or the first parent class that a kind claims; else `"other"`."""
    parents = (parent.__name__ for parent in type(model).__mro__)
    claiming = (kind for name in parents for kind in KINDS.values() if kind.claims(name, model))
    return next(claiming, KINDS["other"])
