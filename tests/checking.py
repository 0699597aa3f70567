"""Type checks around every function of apportion, shapes included, while the tests run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from inspect import isclass, isfunction
from types import ModuleType
from typing import Any

from beartype import BeartypeConf, beartype
from jaxtyping import jaxtyped

_asleep = False


class Checking(MetaPathFinder):
    """Finds apportion's modules and puts checks around the functions and methods that they define.

    jaxtyping's own import hook checks closures as well. The engine makes a closure for every node that it treats, and
    compiling a check for each took half of the tests' time.
    """

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name.partition(".")[0] == "apportion" else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            for holder in (module, *filter(isclass, vars(module).values())):
                if getattr(holder, "__module__", module.__name__) == module.__name__:
                    _check(holder, module.__name__)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


@contextmanager
def unchecked() -> Iterator[None]:
    """As users call it: arguments of a wrong type reach apportion's own checks."""
    global _asleep
    before, _asleep = _asleep, True
    try:
        yield
    finally:
        _asleep = before


def _check(holder: ModuleType | type, module: str) -> None:
    for name, value in list(vars(holder).items()):
        # What contextmanager wraps returns something else than its annotation says.
        if isfunction(value) and value.__module__ == module and not hasattr(value, "__wrapped__"):
            setattr(holder, name, _checked(value))


def _checked(function: Callable[..., Any]) -> Any:
    """A function that raises where its arguments or its result do not fit its annotations."""
    checker = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int will do for a float, as PEP 484 says
    has_shapes = any("Tensor, " in str(annotation) for annotation in function.__annotations__.values())
    # jaxtyping, which lets the axes of several arguments agree, costs ten times what beartype does alone.
    strict = jaxtyped(function, typechecker=checker) if has_shapes else checker(function)

    @wraps(function)
    def either(*arguments: Any, **keywords: Any) -> Any:
        return (function if _asleep else strict)(*arguments, **keywords)

    return either
