"""Skip connections, distinguished from other sums by the structure of the graph."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import Tensor

from apportion.relevance._graph import Graph
from apportion.relevance._operations import COPIES, MATRIX, Kind


class Skips:
    """Finds the sums that add a branch to its own input: y = x + f(x).

    Both summands must come from the inputs (unlike positions that are added to tokens) and have the sum's shape; and
    one of them, through casts, views and scales, must be an ancestor of the other by a path with a weighted map or an
    attention. So the halves of a rotation, the state and input of a recurrence, a polynomial inside an activation, and
    the branches of parallel layers are not residual sums.

    Args:
        graph: The recorded graph.
        inputs: The leaves that are inputs.
        kinds: The class of each node.
    """

    def __init__(self, graph: Graph, inputs: Collection[Tensor], kinds: Sequence[Kind | None]) -> None:
        self.graph, self.kinds = graph, kinds
        #: For each residual sum, the node that its branch was computed from.
        self.streams: dict[int, int] = {}
        self.from_inputs: list[bool] = []
        for node, edges in zip(graph.nodes, graph.inputs, strict=True):
            leaf = getattr(node, "variable", None) if not edges else None
            self.from_inputs.append(
                any(leaf is variable for variable in inputs)
                if leaf is not None
                else any(j >= 0 and self.from_inputs[j] for j in edges)
            )

    def joins(self, i: int) -> bool:
        """Whether a sum is a residual sum."""
        edges = self.graph.inputs[i]
        if len(edges) != 2 or any(j < 0 or not self.from_inputs[j] for j in edges):
            return False
        shapes = [child._input_metadata[k].shape for child, k in self.graph.nodes[i].next_functions]
        if list(shapes[0]) != list(shapes[1]):
            return False
        a, b = (self._origin(j) for j in edges)
        for stream, branch in ((a, b), (b, a)):
            # A second branch from the same tensor joins after the first: (x + f(x)) + g(x).
            for source in (stream, self.streams.get(stream, stream)):
                if source < branch and self._leads(source, branch):
                    self.streams[i] = source
                    return True
        return False

    def _origin(self, i: int) -> int:
        """The node whose values a node passes on unchanged, apart from a scale."""
        while True:
            sources = [j for j in self.graph.inputs[i] if j >= 0]
            if len(sources) != 1 or not (self.graph.names[i] in COPIES or self._scales(i)):
                return i
            i = sources[0]

    def _scales(self, i: int) -> bool:
        edges = self.graph.inputs[i]
        if self.graph.names[i] not in ("Mul", "Div") or len(edges) != 2:
            return False
        constant = getattr(self.graph.nodes[i], "_saved_self" if edges[0] < 0 else "_saved_other", None)
        return constant is not None and constant.numel() == 1

    def _leads(self, ancestor: int, node: int) -> bool:
        """Whether a node was computed from another by a branch; nodes are numbered after their inputs."""
        waiting, seen = [node], {node}
        reached = False
        while waiting:
            for j in self.graph.inputs[waiting.pop()]:
                reached = reached or j == ancestor
                if j > ancestor and j not in seen:
                    seen.add(j)
                    waiting.append(j)
        return reached and any(self.graph.names[j] in MATRIX or self.kinds[j] == "attention" for j in seen)
