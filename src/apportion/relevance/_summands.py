"""The summands of sums, kept by reference while the model runs, since autograd does not keep them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._autograd import _get_sequence_nr
from torch.utils._python_dispatch import TorchDispatchMode

from apportion.relevance._gamma import Operands
from apportion.relevance._graph import Node

#: Nodes of sums.
SUMS = ("Add", "Sub")
_ADD, _SUB = torch.ops.aten.add, torch.ops.aten.sub
_KERNELS = frozenset([_ADD.Tensor, torch.ops.aten.add_.Tensor, _SUB.Tensor, torch.ops.aten.sub_.Tensor])


class Summands(TorchDispatchMode):
    """Watches a forward pass and keeps the summands of every sum of two tensors of one shape that both need a gradient.

    Only a summand that the sum overwrites is copied. Nodes have the numbers of `_capture.py`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[int, tuple[Operands, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _KERNELS and torch.is_grad_enabled() and _may_be_residual(*args[:2]):
            # Not detached, since below autograd a detached tensor would restart its version counter.
            operands = ((args[0].clone() if func._schema.is_mutable else args[0], *args[1:]), kwargs)
            self._kept[_get_sequence_nr() - 1] = operands, _version(operands)
        return func(*args, **kwargs)

    def of(self, nodes: Sequence[Node], sums: Collection[int]) -> dict[int, Operands]:
        """The operands of some nodes, by index, unless they have been overwritten."""
        found = {}
        for i in sums:
            operands, version = self._kept.get(nodes[i]._sequence_nr(), (None, 0))
            if operands is not None and _version(operands) == version:
                (a, b, *scale), keywords = operands
                found[i] = ((a.detach(), b.detach(), *scale), keywords)
        return found

    def forget(self, nodes: Sequence[Node], sums: Collection[int]) -> None:
        """Free the summands of sums that are not residual sums."""
        for i in sums:
            self._kept.pop(nodes[i]._sequence_nr(), None)


def _may_be_residual(a: Any, b: Any) -> bool:
    both = isinstance(a, Tensor) and isinstance(b, Tensor) and a.requires_grad and b.requires_grad
    return both and a.shape == b.shape


def _version(operands: Operands) -> int:
    """A number that grows when a summand is overwritten; torch counts that for a tensor and all its views."""
    (a, b, *_), _ = operands
    return int(a._version + b._version)
