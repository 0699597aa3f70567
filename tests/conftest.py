"""What every test gets: no network, the same random examples each time, and shapes checked as the code runs."""

from __future__ import annotations

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from inspect import isclass, isfunction
from types import FunctionType, ModuleType
from typing import Any

import torch
from beartype import beartype
from hypothesis import HealthCheck, settings
from jaxtyping import jaxtyped

# Before anything imports transformers.
os.environ["HF_HUB_OFFLINE"] = "1"


class Checking(MetaPathFinder):
    """Checks arguments and results of every function and method of apportion, shapes included.

    jaxtyping's own import hook checks closures as well. The engine makes a closure for every node that it visits, and
    each would be compiled anew: most of the time of these tests.
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
                    check(holder, module.__name__)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def check(holder: ModuleType | type, module: str) -> None:
    """Check the functions that a module or a class of it defines."""
    for name, value in list(vars(holder).items()):
        # What contextmanager wraps returns something else than its annotation says.
        if isfunction(value) and value.__module__ == module and not hasattr(value, "__wrapped__"):
            setattr(holder, name, checked(value))


def checked(function: FunctionType) -> Any:
    """A function that raises where arguments or result do not fit its annotations."""
    has_shapes = any("Tensor, " in str(annotation) for annotation in function.__annotations__.values())
    # jaxtyping, which lets axes of several arguments agree, costs ten times what beartype does alone.
    return jaxtyped(function, typechecker=beartype) if has_shapes else beartype(function)


sys.meta_path.insert(0, Checking())

# Slowness is measured in benchmarks/, and torch's first call is slow.
settings.register_profile(
    "apportion", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("apportion")

# The tensors are tiny: a second thread only waits.
torch.set_num_threads(1)
