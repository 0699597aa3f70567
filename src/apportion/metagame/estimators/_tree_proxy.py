"""Metagame by a tree proxy: trees stand in for each target's game, and what they miss is estimated apart."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.metagame.estimators._design import Design
from apportion.metagame.estimators._estimate import MetaEstimate
from apportion.metagame.estimators._exact import exact
from apportion.metagame.estimators._game import MetaGame
from apportion.metagame.estimators._shared import Divided, from_shared
from apportion.metagame.estimators._trees import boosted, sklearn_tree

#: In how many parts the coalitions are split, to tell how well trees foresee those that they were not fitted to.
FOLDS = 3


def tree_proxy(game: MetaGame, *, budget: int, seed: int = 0) -> MetaEstimate:
    r"""The values of a metagame from trees fitted to coalitions that all targets share.

    For every target, gradient-boosted trees predict $\varphi_i(S \cup i)$ from S. The trees' Shapley values are exact
    (see `Leaves.shapley_values`). What the trees leave, $r(S)$, is a game too; its values are estimated with maximum
    sample reuse, by size: $\frac{1}{m} \sum_s (\overline{r}_{s, j \in S} - \overline{r}_{s - 1, j \notin S})$, means
    over the coalitions of that size with and without j. The sum over j is made exact by an equal share of what lacks.
    Coalitions are drawn as for `regression`; with all of them the values are exact.

    The standard errors are those of the sum over $r$, as it is for coalitions that trees were not fitted to, in `FOLDS`
    parts. Trees fitted to fewer coalitions foresee a little less, so that the errors are rather large than small.

    Args:
        game: Its players, targets and payoff.
        budget: How many coalitions may be evaluated, full and singletons included.
        seed: Of the random coalitions and of the trees.

    Raises:
        ApportionError: scikit-learn is not installed, or the coalitions drawn do not tell all players apart; nothing
            has been evaluated then.

    Source:
        Witter et al. 2025, arXiv 2506.11849; maximum sample reuse: Wang and Jia 2023, arXiv 2205.15466. Means by size,
        where the former weigh each coalition by its chance, and errors by folds are our own.
    """
    if game.players <= 2:
        return exact(game)
    sklearn_tree()  # which is missed before coalitions are evaluated rather than after
    return from_shared(game, budget=budget, seed=seed, divide=partial(_of_trees, seed))


def _of_trees(
    seed: int,
    design: Design,
    payoffs: Float[Tensor, "rows outputs"],
    empty: Float[Tensor, " outputs"],
    full: Float[Tensor, " outputs"],
) -> Divided:
    rows, others = design.present.shape
    ends = torch.tensor([[False], [True]]).expand(2, others)
    coalitions = torch.cat([design.present, ends])
    # About what the target has alone, so that all that trees predict is moved by the others.
    centred = torch.cat([payoffs, empty[None], full[None]]) - empty
    trees = boosted(coalitions, centred, seed)
    left = centred - trees.predict(coalitions)
    reuse = _sample_reuse(design)
    values = trees.shapley_values() + reuse @ left[:rows]
    part = torch.randperm(rows, generator=torch.Generator().manual_seed(seed)) % FOLDS
    unforeseen = torch.empty_like(left[:rows])
    for fold in range(FOLDS):
        known = torch.cat([part != fold, torch.ones(2, dtype=torch.bool)])
        foreseen = boosted(coalitions[known], centred[known], seed).predict(design.present[part == fold])
        unforeseen[part == fold] = payoffs[part == fold] - empty - foreseen
    return values + (full - empty - values.sum(0)) / others, design.standard_errors(reuse, unforeseen)


def _sample_reuse(design: Design) -> Float[Tensor, "others rows"]:
    """What each row counts for each player: up where the player is present, down where it is absent, by size."""
    m = len(design.others)
    counts = torch.zeros(m, len(design.rows), dtype=torch.float64)
    for size in design.sizes.unique():
        members = design.sizes == size
        there = design.present[members].double().T
        gone = 1 - there
        with_it, without = there.sum(1, keepdim=True), gone.sum(1, keepdim=True)
        counts[:, members] = there / with_it.clamp_min(1) - gone / without.clamp_min(1)
    # Less what the equal share takes away again.
    return (counts - counts.mean(0)) / m
