"""A site: the output of an inner module whose gradient is requested."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from apportion.core import ApportionError, temporary_hooks


@dataclass(frozen=True)
class Site:
    """The output of a module inside the model.

    Args:
        path: The module's path.
        value: The (first) tensor that it returned.
        edge: Where its gradient arrives.
    """

    path: str
    value: Tensor
    edge: GradientEdge


@contextmanager
def site_watched(modules: list[tuple[str, nn.Module]], pattern: str | None) -> Iterator[list[Site]]:
    """The outputs of the module that a path or pattern names, filled as it runs; empty without a pattern.

    Raises:
        ApportionError: The pattern matches no module, or several.
    """
    if pattern is None:
        yield []
        return
    meant = [path for path, _ in modules if path and fnmatchcase(path, pattern)]
    if len(meant) != 1:
        found = f"{len(meant)} modules, such as {', '.join(meant[:3])}" if meant else "no module"
        raise ApportionError(f"{pattern!r} names {found}; give the path of one, as in model.named_modules().")
    sites: list[Site] = []

    def hook(module: nn.Module, arguments: Any, output: Any) -> None:
        tensors = output if isinstance(output, tuple | list) else [output]
        value = next((x for x in tensors if isinstance(x, Tensor) and x.requires_grad), None)
        if value is None:
            raise ApportionError(f"the output of {meant[0]!r} does not depend on the inputs; choose another module.")
        sites.append(Site(meant[0], value.detach().clone(), get_gradient_edge(value)))

    with temporary_hooks() as handles:
        handles.append(dict(modules)[meant[0]].register_forward_hook(hook))
        yield sites


def the_site(pattern: str, sites: list[Site]) -> Site:
    """The single output that was seen; rejects a module that did not run, or ran several times."""
    if len(sites) != 1:
        raise ApportionError(f"the module {pattern!r} ran {len(sites)} times in one pass; choose one that runs once.")
    return sites[0]
