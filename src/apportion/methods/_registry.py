"""The registry: methods by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import TypeVar, get_args

from apportion.core import ApportionError
from apportion.methods._method import About, Conserves, Family, Method

METHODS: dict[str, type[Method]] = {}

M = TypeVar("M", bound=type[Method])


def register(
    name: str, *, family: Family = "own", conserves: Conserves = "no", cost: str = "", source: str = ""
) -> Callable[[M], M]:
    """Make a method usable by name: in `explain`, `compare`, the command line and the evaluation.

        @ap.register("first-token", cost="1 forward pass")
        class FirstToken(ap.Method):
            def attribute(self, task): ...

    Args:
        name: In lower case with hyphens, as users write it.
        family: How the method computes shares.
        conserves: Whether its scores sum to the target; see `About`.
        cost: Its cost in passes of the model, in words.
        source: The paper.

    Raises:
        ApportionError: The name is taken by another class, or has other characters.
    """

    def add(cls: M) -> M:
        taken = METHODS.get(name)
        if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ApportionError(f"the method name {name!r} is taken by {taken.__name__}; choose another.")
        if not name or name.strip("abcdefghijklmnopqrstuvwxyz0123456789-"):
            raise ApportionError(f"the method name {name!r} must be in lower case, with digits and hyphens only.")
        if not isinstance(getattr(cls, "name", None), property):
            cls.name = name
        cls.about = About(family=family, conserves=conserves, cost=cost, source=source)
        METHODS[name] = cls
        return cls

    return add


backward_method = partial(register, family="backward")
forward_method = partial(register, family="forward")
perturbation_method = partial(register, family="perturbation")


def method_names() -> list[str]:
    """The names of all methods: by family, then in alphabetical order."""
    families = get_args(Family)
    return sorted(METHODS, key=lambda name: (families.index(METHODS[name].about.family), name))


def required_options(name: str) -> list[str]:
    """The options of a method that have no default, such as the corrupted prompt of `relp`."""
    parameters = inspect.signature(METHODS[name]).parameters.values()
    return [parameter.name for parameter in parameters if parameter.default is parameter.empty]
