"""A leaf of the graph: a tensor that can receive relevance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

Role = Literal["tokens", "inputs", "special tokens", "positions", "token types", "biases", "constants"]


@dataclass(frozen=True)
class Leaf:
    """A tensor that can receive relevance: an embedding, an input, or a parameter that is added.

    Args:
        name: The path of the module or parameter, or the name of the input.
        role: Its line in the ledger.
        value: The values that the model computed with.
        edge: Where its gradient arrives.
        variable: The tensor at the end of the graph that represents it.
        ids: For tokens and inputs, the name of the model's input that was looked up, or that it is.
        added: Whether it is a parameter that receives relevance only where it is added.
    """

    name: str
    role: Role
    value: Tensor
    edge: GradientEdge
    variable: Tensor
    ids: str | None = None
    added: bool = False


def cut_at(value: Tensor, leaves: list[Leaf], name: str, role: Role, ids: str | None = None) -> Tensor:
    """Cut the graph at a value: note it as a leaf, and return a copy of it to compute with.

    A copy, since some models change their embeddings in place, which a leaf does not allow.
    """
    source = value.detach().requires_grad_(True)
    leaves.append(Leaf(name, role, source.detach(), get_gradient_edge(source), source, ids))
    return source.clone()
