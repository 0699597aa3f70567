"""The answer span: whether the relevance of an answer finds where the context says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Bool, Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.evaluation._case import Case
from apportion.evaluation._ground_truth import check_truth, pointing_game
from apportion.evaluation._measure import Found, Measure
from apportion.evaluation._registry import register_measure
from apportion.methods import Method
from apportion.results import Attribution
from apportion.results.evaluation import Column


@register_measure("answer-span")
@final
@dataclass(frozen=True, kw_only=True)
class AnswerSpan(Measure):
    """Overlap of the positive relevance with the span that holds the answer, over all players of the prompt.

    Where the answer stands more than once, every place belongs to the span. Of players with equally high relevance,
    each is as likely the top one.

    Args:
        threshold: Players count as found from above this part of the highest relevance; 0 for all that are positive.

    Raises:
        ApportionError: `threshold` is below 0 or not below 1, the item does not say where its answer stands, or the
            relevance is not a number.

    Source:
        Achtibat et al. 2024, arXiv 2402.05602, who measure both on SQuAD. That the union also counts a token of little
        relevance in full makes `iou` strict on long contexts; `soft_iou`, which weights it, and `threshold` are ours.
    """

    threshold: float = 0.0

    columns: ClassVar[tuple[Column, ...]] = (
        Column(name="top1", better="higher", meaning="the highest relevance is in the answer span, 0 to 1"),
        Column(name="iou", better="higher", meaning="players of positive relevance ∩ / ∪ the answer span, 0 to 1"),
        Column(name="soft_iou", better="higher", meaning="the same, weighted by relevance / highest relevance, 0 to 1"),
    )
    needs_truth = True

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise ApportionError(f"threshold={self.threshold} is not possible; give a number from 0 to below 1.")

    def of(self, case: Case, attribution: Attribution, method: Method) -> Found:
        """The top-1 hit and both overlaps."""
        ranked = case.ranked(attribution)
        truth = case.truth_of(ranked.players)
        return {
            "top1": pointing_game(ranked.scores, truth, 1),
            "iou": span_iou(ranked.scores, truth, threshold=self.threshold),
            "soft_iou": soft_span_iou(ranked.scores, truth),
        }


def span_iou(scores: Float[Tensor, " players"], truth: Bool[Tensor, " players"], *, threshold: float = 0.0) -> float:
    r"""$|A \cap \text{truth}| / |A \cup \text{truth}|$ with $A = \{i: R_i > \text{threshold} \cdot \max R\}$.

    Args:
        scores: The relevance.
        truth: Which players are the answer.
        threshold: From 0 to below 1.

    Returns:
        0 where no relevance is positive.

    Raises:
        ApportionError: No player is the answer, or a score is not finite.
    """
    check_truth(scores, truth)
    found = scores > threshold * scores.max()
    return int((found & truth).sum()) / int((found | truth).sum())


def soft_span_iou(scores: Float[Tensor, " players"], truth: Bool[Tensor, " players"]) -> float:
    r"""$\sum_i \min(r_i, t_i) / \sum_i \max(r_i, t_i)$ with $r = R^+ / \max R^+$ and $t$ the truth as 0 and 1.

    Args:
        scores: The relevance.
        truth: Which players are the answer.

    Returns:
        0 where no relevance is positive.

    Raises:
        ApportionError: No player is the answer, or a score is not finite.
    """
    check_truth(scores, truth)
    positive, span = scores.double().clamp(min=0), truth.double()
    if not bool(positive.any()):
        return 0.0
    positive = positive / positive.max()
    return (positive.minimum(span).sum() / positive.maximum(span).sum()).item()
