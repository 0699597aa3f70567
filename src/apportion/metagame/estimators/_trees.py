"""Trees that predict a payoff, and their Shapley values, exactly, from their leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.core import ApportionError

#: Of the trees, each of which corrects those before it.
TREES = 100
DEPTH = 3
LEARNING_RATE = 0.1
FEWEST_IN_A_LEAF = 3
DRAWN_FOR_A_TREE = 0.7


@dataclass(frozen=True)
class Leaves:
    """A sum over leaves: each pays where all of some players are present and all of some others absent.

    Args:
        present: Who must be present.
        absent: Who must be absent.
        pays: What the leaf pays.
    """

    present: Bool[Tensor, "leaves players"]
    absent: Bool[Tensor, "leaves players"]
    pays: Float[Tensor, "leaves outputs"]

    def predict(self, coalitions: Bool[Tensor, "coalitions players"]) -> Float[Tensor, "coalitions outputs"]:
        """What the leaves pay to coalitions."""
        there = coalitions.double()
        broken = (1 - there) @ self.present.double().T + there @ self.absent.double().T
        return (broken == 0).double() @ self.pays

    def shapley_values(self) -> Float[Tensor, "players outputs"]:
        r"""The Shapley values of the sum, without evaluating a coalition.

        A leaf that asks for p players and against a others is pivotal for one it asks for with the chance that among
        these p + a players exactly the other p − 1 come first: $(p-1)!\,a! / (p+a)!$ of what it pays; for one that it
        asks against, $-p!\,(a-1)! / (p+a)!$.
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
        with unchecked(skip_parameter_validation=True):  # which would take longer than a small tree's fit
            tree.fit(features[drawn], left[drawn].numpy(), check_input=False)
        found.append(_leaves(tree.tree_, coalitions.shape[1]))
        left -= found[-1].predict(coalitions)
    return Leaves(
        torch.cat([one.present for one in found]),
        torch.cat([one.absent for one in found]),
        torch.cat([one.pays for one in found]),
    )


def _leaves(tree: Any, players: int) -> Leaves:
    """What a fitted tree of scikit-learn pays in its leaves, times the learning rate."""
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
    """scikit-learn's regression tree, and its context of settings.

    Raises:
        ApportionError: scikit-learn is not installed.
    """
    try:
        from sklearn import config_context
        from sklearn.tree import DecisionTreeRegressor
    except ImportError as error:
        raise ApportionError(
            "estimator='tree-proxy' needs scikit-learn: pip install 'apportion[games]'; "
            "estimator='regression' needs nothing more."
        ) from error
    return DecisionTreeRegressor, config_context
