"""Values that autograd does not keep, from a second forward pass: added constants and arguments of operations."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from torch._C._autograd import _get_sequence_nr
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from apportion.relevance._gamma import Operands


class Capture(TorchDispatchMode):
    """Watches a forward pass below autograd and keeps the requested values.

    Autograd makes a node just before it runs the node's operation, and numbers nodes in this order; so the first
    operation that runs after a node was made is the node's own, and the same pass gives the same numbers.

    Args:
        start: The number of the pass's first node.
        constants: Numbers (counted from `start`) of affine operations whose constant part to keep.
        operands: Numbers of operations whose arguments to keep.
        dead: Numbers of nodes that carry no relevance although autograd follows them.
    """

    def __init__(
        self, start: int, constants: Collection[int], operands: Collection[int], dead: Collection[int]
    ) -> None:
        super().__init__()
        self.start, self.dead = start, frozenset(dead)
        self.wanted_constants, self.wanted_operands = frozenset(constants), frozenset(operands)
        self.constants: dict[int, Tensor] = {}
        self.operands: dict[int, Operands] = {}
        self._last = -1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        number = _get_sequence_nr() - 1 - self.start
        if number > self._last and any(isinstance(a, Tensor) and a.requires_grad for a in _flat(args)):
            self._last = number
            if number in self.wanted_operands:
                self.operands[number] = tree_map_only(Tensor, _kept, (args, kwargs))
            elif number in self.wanted_constants:
                self.constants[number] = self._constant_part(func, args, kwargs)
        return func(*args, **kwargs)

    def _constant_part(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        """The result of an affine operation when everything that carries relevance is 0."""
        args, kwargs = tree_map_only(Tensor, self._without_relevance, (args, kwargs))
        if func._schema.name.endswith("_") and isinstance(args[0], Tensor):
            args = (args[0].clone(), *args[1:])
        result = func(*args, **kwargs)
        return result[0] if isinstance(result, tuple | list) else result

    def _without_relevance(self, value: Tensor) -> Tensor:
        if not value.requires_grad:
            return value
        made_by = value.grad_fn
        if made_by is not None and made_by._sequence_nr() - self.start in self.dead:
            return value.detach()
        return torch.zeros_like(value)


def _kept(value: Tensor) -> Tensor:
    """A copy of a value, which the model may overwrite later; weights are not copied."""
    return value.detach().clone() if value.requires_grad else value


def _flat(args: Any) -> list[Any]:
    return [b for a in args for b in (a if isinstance(a, list | tuple) else (a,))]
