"""Structure: properties of a recorded graph that do not depend on the rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from apportion.relevance._graph import Graph
from apportion.relevance._operations import CLAMPS, MATRIX, PRODUCTS, Kind, kind_of

DEAD, ADDED, LIVE = 0, 1, 2
_REACH = 16


class Structure:
    """A graph with the kinds of its nodes, and whether they depend on the inputs.

    Args:
        graph: The recorded graph.
        leaves: `LIVE` or `ADDED` for the tensors that receive relevance.
    """

    def __init__(self, graph: Graph, leaves: Mapping[Tensor, int]) -> None:
        self.graph, self.leaves = graph, leaves
        self.names, self.inputs = graph.names, graph.inputs
        self.kinds: list[Kind | None] = [kind_of(name) for name in graph.names]
        #: Whether each node depends on the inputs, before anything is held constant.
        self.depends = self._dependence()

    def _dependence(self) -> list[bool]:
        depends: list[bool] = []
        for i, edges in enumerate(self.inputs):
            if edges:
                depends.append(any(j >= 0 and depends[j] for j in edges))
            else:
                depends.append(self.leaf_state(i) == LIVE)
        return depends

    def leaf_state(self, i: int) -> int:
        """`LIVE`, `ADDED` or `DEAD` for a leaf."""
        # By tensor, since torch may make a new Python object for the same node.
        variable = getattr(self.graph.nodes[i], "variable", None)
        return DEAD if variable is None else self.leaves.get(variable, DEAD)

    def same_source(self, value: int, gate: int) -> bool:
        """Whether a gate is computed from the value that it gates, as in x · sigmoid(x)."""
        origin = value
        while True:
            sources = [j for j in self.inputs[origin] if j >= 0 and self.depends[j]]
            if len(sources) != 1 or self.names[origin] in MATRIX or self.kinds[origin] not in ("linear", "product"):
                break
            origin = sources[0]
        waiting, seen = [gate], set[int]()
        while waiting and len(seen) < 4 * _REACH:
            node = waiting.pop()
            if node == origin:
                return True
            if node in seen or self.names[node] in MATRIX:
                continue
            seen.add(node)
            waiting.extend(j for j in self.inputs[node] if j >= 0)
        return False

    def reaches(self, i: int, accept: Callable[[int], bool]) -> bool:
        """Whether a node's result, after linear maps of one argument, meets another live factor in a product."""
        waiting, seen = [(i, 0)], set[int]()
        while waiting:
            node, depth = waiting.pop()
            if node in seen or depth > _REACH:
                continue
            seen.add(node)
            for consumer, argument in self.graph.consumers[node]:
                meets = self._meets(consumer, argument)
                if meets and accept(consumer):
                    return True
                if meets is None:
                    waiting.append((consumer, depth + 1))
        return False

    def _meets(self, consumer: int, argument: int) -> bool | None:
        """Whether an argument meets another live factor in its consumer; None if it only passes through."""
        name, edges = self.names[consumer], self.inputs[consumer]
        if name in PRODUCTS and argument in PRODUCTS[name]:
            others = [edges[k] for k in PRODUCTS[name] if k < len(edges) and k != argument and edges[k] >= 0]
            if any(self.depends[j] for j in others):
                return True
            return False if name in MATRIX else None
        if name == "Div":
            return True if argument == 1 else None
        if name in CLAMPS:
            return None
        if self.kinds[consumer] != "linear" or name in MATRIX:
            return False
        joined = name in ("Add", "Sub", "Rsub") and sum(j >= 0 and self.depends[j] for j in edges) >= 2
        return False if joined else None

    def reaches_softmax(self, i: int) -> bool:
        """Whether a product's result becomes the argument of a softmax by linear maps: the scores of an attention."""
        waiting, seen = [i], set[int]()
        while waiting and len(seen) < 4 * _REACH:
            node = waiting.pop()
            if node in seen:
                continue
            seen.add(node)
            for consumer, _ in self.graph.consumers[node]:
                if self.kinds[consumer] == "softmax":
                    return True
                if self.kinds[consumer] in ("linear", "product", "quotient") and self.names[consumer] not in MATRIX:
                    waiting.append(consumer)
        return False
