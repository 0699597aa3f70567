"""Agreement with removal: how well the relevance of players follows what leaving each of them out does."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.evaluation._case import Case, Ranked
from apportion.evaluation._measure import Found, Measure
from apportion.evaluation._registry import register_measure
from apportion.methods import Method
from apportion.results import Attribution
from apportion.results.evaluation import Column


@register_measure("leave-one-out-agreement")
@final
@dataclass(frozen=True, kw_only=True)
class LeaveOneOutAgreement(Measure):
    """Correlation of the relevance with leave-one-out, over the players of one item.

    Where the method divides among coarser features, such as words, these are what is left out. Leave-one-out with the
    same masker agrees with itself by construction. A correlation with a constant is NaN.

    Raises:
        ApportionError: scipy is missing.

    Source:
        Jain and Wallace 2019, arXiv 1902.10186, and You et al. 2025, arXiv 2510.18810, on attention and on LRP.
    """

    columns: ClassVar[tuple[Column, ...]] = (
        Column(name="loo_pearson", better="higher", meaning="Pearson correlation with leave-one-out, -1 to 1"),
        Column(name="loo_spearman", better="higher", meaning="Spearman correlation with leave-one-out, -1 to 1"),
        Column(name="loo_kendall", better="higher", meaning="Kendall's tau-b with leave-one-out, -1 to 1"),
    )

    def of(self, case: Case, attribution: Attribution, method: Method) -> Found:
        """All three correlations."""
        ranked = case.ranked(attribution)
        removed = drops_without_each(case, ranked)
        return {f"loo_{name}": value for name, value in correlations(ranked.scores, removed).items()}


def drops_without_each(case: Case, ranked: Ranked) -> Float[Tensor, " players"]:
    """How much the target falls without each player, in its unit."""
    if ranked.players.groups == case.players.groups:
        return case.leave_one_out.scores.double().cpu()[list(case.players.columns)]
    count = len(ranked.players.groups)
    values = ranked.game.values(~torch.eye(count, dtype=torch.bool))[:, 0]
    return ranked.game.full[0] - values


def correlations(a: Float[Tensor, " players"], b: Float[Tensor, " players"]) -> dict[str, float]:
    """Pearson's, Spearman's and Kendall's (tau-b) correlation; NaN with a constant, or of a single player.

    Raises:
        ApportionError: scipy is missing.
    """
    try:
        from scipy import stats
    except ImportError as error:
        raise ApportionError("correlations need scipy: pip install 'apportion[evaluate]' or scipy itself.") from error
    names = ("pearson", "spearman", "kendall")
    if len(a) < 2:
        return dict.fromkeys(names, math.nan)
    x, y = a.double().cpu().numpy(), b.double().cpu().numpy()
    with warnings.catch_warnings():
        # scipy warns of constants, where it gives NaN, and of numbers that are constant but for rounding.
        warnings.simplefilter("ignore", category=RuntimeWarning)
        found = (stats.pearsonr(x, y), stats.spearmanr(x, y), stats.kendalltau(x, y))
    return {name: float(one.statistic) for name, one in zip(names, found, strict=True)}
