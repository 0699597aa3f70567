"""The recorded autograd graph as arrays: nodes from the leaves to the roots, their inputs and their modules."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

Node = Any  # torch.autograd.graph.Node; its _saved_* attributes differ by operation


@cache
def operation_name(raw: str) -> str:
    """`"AddmmBackward0"` → `"Addmm"`; the name of a custom Function without its `Backward`."""
    match = re.match(r"(.+?)Backward(\d*)$", raw.split("::")[-1])
    return match.group(1) if match else raw.split("::")[-1]


@dataclass
class Graph:
    """The part of the autograd graph below some roots.

    Args:
        nodes: Each node after all of its inputs.
        names: Their operations, such as `"Addmm"`.
        inputs: For each node, the index of the node of each differentiable argument, or −1 if the argument depends on
            no leaf.
        roots: Indices of the nodes that produced the outputs.
    """

    nodes: list[Node]
    names: list[str]
    inputs: list[tuple[int, ...]]
    roots: tuple[int, ...]
    _consumers: list[list[tuple[int, int]]] | None = field(default=None, repr=False)

    @classmethod
    def below(cls, roots: Sequence[Node]) -> Graph:
        """Walk the graph from its roots to its leaves."""
        nodes: list[Node] = []
        index: dict[Node, int] = {}
        children: dict[Node, list[Node | None]] = {}
        stack: list[Node] = list(roots)
        while stack:
            node = stack[-1]
            if node in children:
                stack.pop()
                if node not in index:
                    index[node] = len(nodes)
                    nodes.append(node)
                continue
            edges = children[node] = [child for child, _ in node.next_functions]
            stack.extend([child for child in edges if child is not None and child not in children])
        index[None] = -1
        inputs = [tuple([index[child] for child in children[node]]) for node in nodes]
        names = [operation_name(node.name()) for node in nodes]
        return cls(nodes, names, inputs, tuple(index[root] for root in roots))

    @property
    def consumers(self) -> list[list[tuple[int, int]]]:
        """For each node, the uses of its result: (consuming node, index of its argument)."""
        if self._consumers is None:
            self._consumers = [[] for _ in self.nodes]
            for consumer, edges in enumerate(self.inputs):
                for argument, i in enumerate(edges):
                    if i >= 0:
                        self._consumers[i].append((consumer, argument))
        return self._consumers


@dataclass(slots=True)
class Visit:
    """One call of a module in the forward pass, with the numbers of its first node and of the first node after it."""

    path: str
    class_name: str
    first: int
    end: int
    parent: int


class Places:
    """The module of each node: the innermost call whose numbers enclose its own; autograd numbers nodes in order."""

    def __init__(self, visits: Sequence[Visit]) -> None:
        self.visits = visits
        self._order = sorted(range(len(visits)), key=lambda i: (visits[i].first, i))
        self._firsts = [visits[i].first for i in self._order]

    def visit_of(self, node: Node) -> int | None:
        """The index of the innermost call that made the node, or None."""
        number = node._sequence_nr()
        at = bisect_right(self._firsts, number) - 1
        i = self._order[at] if at >= 0 else -1
        while i >= 0:
            visit = self.visits[i]
            if visit.first <= number < visit.end:
                return i
            i = visit.parent
        return None

    def path_of(self, node: Node) -> str:
        """The path of the innermost module that made the node; empty for the model itself."""
        i = self.visit_of(node)
        return "" if i is None else self.visits[i].path
