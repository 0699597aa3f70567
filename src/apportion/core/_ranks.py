"""Rank correlation: how alike two lists of numbers order the same things."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def rank_correlation(
    a: Float[Tensor, "samples outputs"], b: Float[Tensor, "samples outputs"]
) -> Float[Tensor, " outputs"]:
    """Spearman's ρ by column: Pearson's correlation of the ranks; equal values share their mean rank.

    NaN where one of the two is constant.
    """
    first, second = (torch.stack([_ranks(column) for column in x.T], 1) for x in (a, b))
    first, second = first - first.mean(0), second - second.mean(0)
    return (first * second).sum(0) / ((first**2).sum(0) * (second**2).sum(0)).sqrt()


def _ranks(values: Float[Tensor, " samples"]) -> Float[Tensor, " samples"]:
    _, group, count = values.unique(return_inverse=True, return_counts=True)
    return (count.cumsum(0).double() - (count - 1) / 2)[group]
