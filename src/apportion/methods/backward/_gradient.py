"""Gradient: the size of the target's gradient at each token's embedding, or at each region of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from apportion.core import ApportionError
from apportion.methods._method import Method, Shares
from apportion.methods._registry import backward_method
from apportion.methods.backward._neighbourhood import by_place, moves, shares_of_elements
from apportion.task import AttributionTask

NORMS = ("l2", "l1")


@backward_method(
    "gradient", conserves="no", cost="1 forward, 1 backward", source="Simonyan et al. 2014, arXiv 1312.6034"
)
@dataclass(frozen=True, kw_only=True)
class Gradient(Method):
    r"""The norm of the target's gradient at each token's embedding: $\lVert \partial f / \partial x_i \rVert$.

    For a region of an image, $x_i$ are all channels of all its pixels, so a larger region tends to have a larger norm.
    Scores are never negative and do not sum to the target: they rank features by the target's sensitivity.

    Args:
        norm: Over the embedding's dimensions or the region's elements, `"l2"` or `"l1"`.

    Raises:
        ApportionError: There is no such norm.

    Source:
        Simonyan et al. 2014, arXiv 1312.6034, section 3, who take the maximum over an image's three channels; for text
        a norm over the embedding is usual (Li et al. 2016, arXiv 1506.01066, section 5).
    """

    norm: Literal["l2", "l1"] = "l2"

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ApportionError(f"norm={self.norm!r} is not known; use {' or '.join(map(repr, NORMS))}.")

    def attribute(self, task: AttributionTask) -> Shares:
        """Take the norms of the task's gradients, for all examples and targets at once."""
        read = task.target_values
        found = task.trace.gradients(read.outputs, read.seeds, keep_graph=not task.last_method)
        task.passes.backward += len(task.targets) * len(task.prompts)
        leaves = {name: task.trace.leaves[name] for name in found}
        moving = {name: gradient for name, gradient in found.items() if moves(leaves[name], task)}
        tokens = {name: gradient for name, gradient in moving.items() if leaves[name].role == "tokens"}
        gradients = [(ids, gradient) for (_, ids), gradient in by_place(task.trace, tokens).items()]
        # Visual tokens of several images, and of several layers, are leaves of their own.
        gradients += [(str(leaves[name].ids), gradient) for name, gradient in moving.items() if name not in tokens]
        sizes = [(ids, size.square() if self.norm == "l2" else size.abs()) for ids, size in gradients]
        scores = [shares_of_elements(sizes, task, b) for b in range(len(task.prompts))]
        return Shares(scores=[amount.sqrt() for amount in scores] if self.norm == "l2" else scores)
