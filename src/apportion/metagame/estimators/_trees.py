"""Trees that predict a payoff, and their exact Shapley values from their leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.core import ApportionError

#: Settings of gradient boosting.
TREES = 100
DEPTH = 3
LEARNING_RATE = 0.1
FEWEST_IN_A_LEAF = 3
DRAWN_FOR_A_TREE = 0.7


@dataclass(frozen=True)
class Leaves:
    """A sum over leaves: each pays `pays` if all players in `present` are present and all in `absent` are absent."""

    present: Bool[Tensor, "leaves players"]
    absent: Bool[Tensor, "leaves players"]
    pays: Float[Tensor, "leaves outputs"]

    def predict(self, coalitions: Bool[Tensor, "coalitions players"]) -> Float[Tensor, "coalitions outputs"]:
        """The sum of the leaves for each coalition."""
        there = coalitions.double()
        broken = (1 - there) @ self.present.double().T + there @ self.absent.double().T
        return (broken == 0).double() @ self.pays

    def shapley_values(self) -> Float[Tensor, "players outputs"]:
        r"""The Shapley values of the sum, without evaluating a coalition.

        A player that a leaf needs present, with p − 1 others present and a absent, gets the leaf's payment times the
        probability that among these p + a players exactly the other p − 1 come first, $(p-1)!\,a! / (p+a)!$; one that
        it needs absent, times $-p!\,(a-1)! / (p+a)!$.
        """
        p, a = self.present.sum(1).double(), self.absent.sum(1).double()
        of_all = torch.lgamma(p + a + 1)
        gains = torch.exp(torch.lgamma(p.clamp_min(1)) + torch.lgamma(a + 1) - of_all)[:, None] * self.pays
        losses = torch.exp(torch.lgamma(p + 1) + torch.lgamma(a.clamp_min(1)) - of_all)[:, None] * self.pays
        return self.present.double().T @ gains - self.absent.double().T @ losses


def boosted(
    coalitions: Bool[Tensor, "coalitions players"], payoffs: Float[Tensor, "coalitions outputs"], seed: int
) -> Leaves:
    """The leaves of gradient-boosted trees that predict the payoffs of coalitions; all outputs share the trees.

    Raises:
        ApportionError: scikit-learn is not installed.
    """
    grow, unchecked = sklearn_tree()
    random = np.random.RandomState(seed % 2**32)
    features, left = coalitions.numpy().astype(np.float32), payoffs.clone()
    per_tree = max(2, round(DRAWN_FOR_A_TREE * len(payoffs)))
    found = []
    for _ in range(TREES):
        drawn = random.permutation(len(payoffs))[:per_tree]
        tree = grow(max_depth=DEPTH, min_samples_leaf=FEWEST_IN_A_LEAF, random_state=random)
        with unchecked(skip_parameter_validation=True):  # validation would take longer than a small tree's fit
            tree.fit(features[drawn], left[drawn].numpy(), check_input=False)
        found.append(_leaves(tree.tree_, coalitions.shape[1]))
        left -= found[-1].predict(coalitions)
    return Leaves(*(torch.cat([getattr(one, name) for one in found]) for name in ("present", "absent", "pays")))


def _leaves(tree: Any, players: int) -> Leaves:
    """The leaves of a fitted scikit-learn tree, times the learning rate."""
    present = np.zeros((tree.node_count, players), dtype=bool)
    absent = np.zeros_like(present)
    for node, (without, joined) in enumerate(zip(tree.children_left, tree.children_right, strict=True)):
        if without >= 0:  # children come after their parents
            for child in (without, joined):
                present[child], absent[child] = present[node], absent[node]
            absent[without, tree.feature[node]] = present[joined, tree.feature[node]] = True
    ends = tree.children_left < 0
    pays = LEARNING_RATE * tree.value[ends, :, 0]
    return Leaves(torch.from_numpy(present[ends]), torch.from_numpy(absent[ends]), torch.from_numpy(pays))


def sklearn_tree() -> tuple[Any, Any]:
    """scikit-learn's regression tree and its configuration context; an `ApportionError` if it is not installed."""
    try:
        from sklearn import config_context
        from sklearn.tree import DecisionTreeRegressor
    except ImportError as error:
        raise ApportionError(
            "estimator='tree-proxy' needs scikit-learn: pip install 'apportion[games]'; "
            "estimator='regression' needs nothing more."
        ) from error
    return DecisionTreeRegressor, config_context
