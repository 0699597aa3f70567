"""Ground truth: whether the relevance finds what is known to be the cause, such as the subject of a verb."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.evaluation._case import Case
from apportion.evaluation._measure import Found, Measure
from apportion.evaluation._registry import register_measure
from apportion.games import Players
from apportion.methods import Method
from apportion.results import Attribution
from apportion.results.evaluation import Column


@register_measure("ground-truth")
@final
@dataclass(frozen=True, kw_only=True)
class GroundTruth(Measure):
    """Where the known cause stands when the players are ranked by falling signed relevance.

    Of an image, only its own parts are ranked, not the words beside it. A part is of the cause where at least half of
    its pixels are inside the mask (see `Case.truth_of`); the mass counts by pixels: a part's positive relevance is
    spread evenly over its pixels, and what falls inside the mask counts.

    Players of equal relevance are in random order, and each number is its expectation, in closed form: a constant
    relevance scores exactly as a random order does. The cause is found with its best-ranked player.

    Raises:
        ApportionError: The item does not say where its cause stands, or the relevance is not a number.

    Source:
        Yin and Neubig 2022, arXiv 2202.10419, for the mean reciprocal rank and the probes needed; Zhang et al. 2018,
        doi:10.1007/s11263-017-1059-x, for the pointing game; Arras et al. 2022, doi:10.1016/j.inffus.2021.11.008, for
        the relevance mass and rank accuracies. Where no relevance is positive, we count a mass accuracy of 0, so that
        all methods are judged on the same items.
    """

    columns: ClassVar[tuple[Column, ...]] = (
        Column(name="mrr", better="higher", meaning="1 / rank of the best-ranked player of the cause (MRR), 0 to 1"),
        Column(name="pg1", better="higher", meaning="pointing game: the cause has the highest relevance, 0 to 1"),
        Column(name="pg2", better="higher", meaning="pointing game: the cause is among the 2 highest, 0 to 1"),
        Column(name="pg3", better="higher", meaning="pointing game: the cause is among the 3 highest, 0 to 1"),
        Column(name="rma", better="higher", meaning="the cause's part of all positive relevance, 0 to 1"),
        Column(name="rra", better="higher", meaning="of as many top players as the cause has, its part, 0 to 1"),
        Column(name="probes", better="lower", meaning="players that rank above the cause's best-ranked one"),
    )
    needs_truth = True

    def of(self, case: Case, attribution: Attribution, method: Method) -> Found:
        """All scores of the attribution's ranking."""
        ranked = case.ranked(attribution)
        truth, scores = case.truth_of(ranked.players), ranked.scores
        parts = truth.double()
        if case.item.mask is not None:
            parts, mine = case.inside(ranked.players), _of_images(case, ranked.players)
            truth, scores, parts = truth[mine], scores[mine], parts[mine]
        return {
            "mrr": reciprocal_rank(scores, truth),
            **{f"pg{k}": pointing_game(scores, truth, k) for k in (1, 2, 3)},
            "rma": relevance_mass_accuracy(scores, truth, parts),
            "rra": relevance_rank_accuracy(scores, truth),
            "probes": probes_needed(scores, truth),
        }


def _of_images(case: Case, players: Players) -> Bool[Tensor, " players"]:
    features = case.task.prompts[0].features
    return torch.tensor([all(features[i].image is not None for i in group) for group in players.groups])


def reciprocal_rank(scores: Float[Tensor, " players"], truth: Bool[Tensor, " players"]) -> float:
    """1 / rank of the best-ranked player of the cause; expected, where players of equal relevance are shuffled.

    Args:
        scores: The relevance.
        truth: Which players are the cause.

    Raises:
        ApportionError: No player is the cause, or a score is not finite.
    """
    above, tied, hits = _tie_at_best(scores, truth)
    expected, chance = 0.0, hits / tied
    for place in range(1, tied - hits + 2):
        # The chance that the first hit of the shuffled tie stands here.
        expected += chance / (above + place)
        if place < tied:
            chance *= (tied - hits - place + 1) / (tied - place)
    return expected


def pointing_game(scores: Float[Tensor, " players"], truth: Bool[Tensor, " players"], k: int = 1) -> float:
    """The chance that one of the `k` top-ranked players is of the cause, where equal relevance is shuffled.

    Args:
        scores: The relevance.
        truth: Which players are the cause.
        k: How many players are looked at, 1 or more.

    Raises:
        ApportionError: No player is the cause, a score is not finite, or `k` is below 1.
    """
    if k < 1:
        raise ApportionError(f"k={k} is not possible; give 1 or more.")
    above, tied, hits = _tie_at_best(scores, truth)
    places = min(max(k - above, 0), tied)
    return 1 - math.prod((tied - hits - place) / (tied - place) for place in range(places))


def relevance_mass_accuracy(
    scores: Float[Tensor, " players"], truth: Bool[Tensor, " players"], parts: Float[Tensor, " players"] | None = None
) -> float:
    r"""$\sum_i p_i R_i^+ / \sum_i R_i^+$, $p_i$ being the part of a player that is of the cause.

    It is 0 where no relevance is positive.

    Args:
        scores: The relevance.
        truth: Which players are the cause.
        parts: How much of each player is, from 0 to 1; by default all of those in `truth`, and nothing of others.

    Raises:
        ApportionError: No player is the cause, or a score is not finite.
    """
    check_truth(scores, truth)
    positive = scores.double().clamp(min=0)
    largest = positive.max().item()
    if largest == 0:
        return 0.0
    positive = positive / largest  # the sum of very large or small numbers stays one
    inside = positive[truth].sum() if parts is None else positive @ parts.to(positive)
    return (inside / positive.sum()).item()


def relevance_rank_accuracy(scores: Float[Tensor, " players"], truth: Bool[Tensor, " players"]) -> float:
    """Of the |truth| top-ranked players the part that is of the cause; expected, where equal relevance is shuffled.

    Args:
        scores: The relevance.
        truth: Which players are the cause.

    Raises:
        ApportionError: No player is the cause, or a score is not finite.
    """
    check_truth(scores, truth)
    count = int(truth.sum())
    last = scores.sort(descending=True).values[count - 1]
    above, tied = scores > last, scores == last
    left = count - int(above.sum())
    certain, chance = int((above & truth).sum()), int((tied & truth).sum()) / int(tied.sum())
    return (certain + left * chance) / count


def probes_needed(scores: Float[Tensor, " players"], truth: Bool[Tensor, " players"]) -> float:
    """How many players rank above the best-ranked one of the cause; expected, where equal relevance is shuffled.

    Args:
        scores: The relevance.
        truth: Which players are the cause.

    Raises:
        ApportionError: No player is the cause, or a score is not finite.
    """
    above, tied, hits = _tie_at_best(scores, truth)
    return above + (tied - hits) / (hits + 1)


def check_truth(scores: Float[Tensor, " players"], truth: Bool[Tensor, " players"]) -> None:
    """Refuse a ranking that cannot be judged.

    Raises:
        ApportionError: No player is the cause, or a score is not finite.
    """
    if not bool(truth.any()):
        raise ApportionError(
            "no player is known to be the cause, so this measure cannot judge the item; say where its cause stands "
            "(Item.truth), or leave the measure out."
        )
    if not bool(scores.isfinite().all()):
        raise ApportionError("a score is not finite, so the players cannot be ranked; explain the item again.")


def _tie_at_best(scores: Float[Tensor, " players"], truth: Bool[Tensor, " players"]) -> tuple[int, int, int]:
    """How many players stand above the cause's best one, how many are its equals, and how many of these are it."""
    check_truth(scores, truth)
    best = scores[truth].max()
    tied = scores == best
    return int((scores > best).sum()), int(tied.sum()), int((tied & truth).sum())
