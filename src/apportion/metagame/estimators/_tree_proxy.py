"""Metagame by a tree proxy: trees approximate each target's game, and their residuals are estimated separately."""

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

#: The number of folds that measure how well trees predict coalitions they were not fitted to.
FOLDS = 3


def tree_proxy(game: MetaGame, *, budget: int, seed: int = 0) -> MetaEstimate:
    r"""The values of a metagame from trees fitted to coalitions that all targets share.

    For every target, gradient-boosted trees predict $\varphi_i(S \cup i)$ from S. The trees' Shapley values are exact
    (see `Leaves.shapley_values`). Their residual $r(S)$ is a game too; its values are estimated with maximum sample
    reuse, by size: $\frac{1}{m} \sum_s (\overline{r}_{s, j \in S} - \overline{r}_{s - 1, j \notin S})$, means
    over the coalitions of that size with and without j. The difference to the exact sum over j is shared equally.
    Coalitions are drawn as for `regression`; with all of them the values are exact.

    The standard errors are those of the sum over out-of-sample residuals, in `FOLDS` folds. Trees fitted to fewer
    coalitions predict a little worse, so the errors tend to be too large rather than too small.

    Args:
        game: Its players, targets and payoff.
        budget: How many coalitions may be evaluated, full and singletons included.
        seed: Of the random coalitions and of the trees.

    Raises:
        ApportionError: scikit-learn is not installed, or the sample cannot distinguish all players; nothing has been
            evaluated then.

    Source:
        Witter et al. 2025, arXiv 2506.11849; maximum sample reuse: Wang and Jia 2023, arXiv 2205.15466. Means by size
        (the former weigh each coalition by its probability) and errors by folds are our own.
    """
    if game.players <= 2:
        return exact(game)
    sklearn_tree()  # if it is missing, fail before evaluating coalitions
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
    # Relative to the main effect, so that everything the trees predict is due to the others.
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
    """The weight of each row for each player, by size: positive if the player is present, else negative."""
    m = len(design.others)
    counts = torch.zeros(m, len(design.rows), dtype=torch.float64)
    for size in design.sizes.unique():
        members = design.sizes == size
        there = design.present[members].double().T
        gone = 1 - there
        with_it, without = there.sum(1, keepdim=True), gone.sum(1, keepdim=True)
        counts[:, members] = there / with_it.clamp_min(1) - gone / without.clamp_min(1)
    # Less the mean, which the equal sharing of the difference removes.
    return (counts - counts.mean(0)) / m
