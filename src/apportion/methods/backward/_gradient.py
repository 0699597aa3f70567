"""Gradient: how steeply the target changes with each token's embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from apportion._errors import ApportionError
from apportion._question import Question
from apportion.methods._method import Method, Shares
from apportion.methods._registry import register
from apportion.methods.backward._neighbourhood import by_place
from apportion.methods.backward._tokens import shares_of_tokens

NORMS = ("l2", "l1")


@register(
    "gradient",
    family="backward",
    conserves="no",
    cost="1 forward, 1 backward",
    source="Simonyan et al. 2014, arXiv 1312.6034",
)
@dataclass(frozen=True, kw_only=True)
class Gradient(Method):
    r"""The norm of the target's gradient at each token's embedding: $\lVert \partial f / \partial x_i \rVert$.

    Scores are never negative and do not sum to the target: they rank the tokens by how sensitive the target is.

    Args:
        norm: Over the embedding's dimensions, `"l2"` or `"l1"`.

    Raises:
        ApportionError: There is no such norm.

    Source:
        Simonyan et al. 2014, arXiv 1312.6034, section 3, who take the largest of an image's three channels; an
        embedding has many, so a norm of all is usual for text (Li et al. 2016, arXiv 1506.01066, section 5).
    """

    norm: Literal["l2", "l1"] = "l2"

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ApportionError(f"norm={self.norm!r} is not known; use {' or '.join(map(repr, NORMS))}.")

    def attribute(self, question: Question) -> Shares:
        """Take the norms of the question's gradients, for all examples and targets at once."""
        read = question.read
        found = question.trace.gradients(read.outputs, read.seeds, keep_graph=not question.last_method)
        question.passes.backward += len(question.targets) * len(question.prompts)
        sizes = [
            (ids, gradient.square().sum(-1) if self.norm == "l2" else gradient.abs().sum(-1))
            for (_, ids), gradient in by_place(question.trace, found).items()
        ]
        scores = [shares_of_tokens(sizes, question, b) for b in range(len(question.prompts))]
        return Shares(scores=[amount.sqrt() for amount in scores] if self.norm == "l2" else scores)
