"""A leaf of the graph: something that can receive relevance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.autograd.graph import GradientEdge

Role = Literal["tokens", "inputs", "special tokens", "positions", "token types", "biases", "constants"]


@dataclass(frozen=True)
class Leaf:
    """Something that can receive relevance: an embedding of the inputs, an input itself, or a parameter that is added.

    Args:
        name: Path of the module or parameter, or the input's name.
        role: The line of the ledger that it belongs to.
        value: What the model computed with.
        edge: Where its gradient arrives.
        variable: The tensor at the end of the graph that stands for it.
        ids: For tokens and inputs, the name of the model's input that was looked up, or that it is.
        added: Whether it is a parameter that counts only where it is added.
    """

    name: str
    role: Role
    value: Tensor
    edge: GradientEdge
    variable: Tensor
    ids: str | None = None
    added: bool = False
