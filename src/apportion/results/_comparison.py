"""A comparison: what several methods say about one prediction, and how far they agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError, Saved, Shown, pandas_module, rank_correlation
from apportion.results._attribution import Attribution
from apportion.results._explained import Cost

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(Shown, Saved, Mapping[str, Attribution]):
    """Attributions of one prediction by several methods: a mapping from the methods' names, in their order.

    Args:
        attributions: By the methods' names.
        refused: Methods that cannot serve this model or prompt, with the error that says why.
        shared: What the forward pass took that all methods share.
    """

    attributions: Mapping[str, Attribution]
    refused: Mapping[str, ApportionError] = field(default_factory=dict)
    shared: Cost = field(default_factory=lambda: Cost(seconds=0.0, forward=0.0, backward=0.0))

    def __getitem__(self, name: str) -> Attribution:
        if name not in self.attributions and name in self.refused:
            raise ApportionError(f"{name} gave no attribution: {self.refused[name]}")
        return self.attributions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.attributions)

    def __len__(self) -> int:
        return len(self.attributions)

    def rank_correlations(self) -> Float[Tensor, "method method"]:
        """How alike the methods order the features: Spearman's ρ of every pair, the mean over the targets.

        Template tokens are left out, since perturbation methods never remove them. Where one of two methods gives
        sizes only (nothing below 0), the other's sizes are compared with them. A pair that divides among different
        features is compared on the coarser ones. NaN where a method gives every feature the same.
        """
        found = torch.ones(len(self), len(self), dtype=torch.float64)
        every = list(self.values())
        for i, one in enumerate(every):
            for j in range(i):
                found[i, j] = found[j, i] = agreement(one, every[j])
        return found

    def to_frame(self) -> pandas.DataFrame:
        """A pandas table with a row per method, target and feature; see `Attribution.to_frame`."""
        frames = []
        for name, attribution in self.items():
            frame = attribution.to_frame()
            frame.insert(0, "method", name)
            frames.append(frame)
        return pandas_module().concat(frames, ignore_index=True)

    def to_dict(self) -> dict[str, Any]:
        """Everything in JSON-ready values; a correlation that is not defined is None."""
        return {
            **super().to_dict(),
            "rank_correlations": [
                [None if value != value else value for value in row] for row in self.rank_correlations().tolist()
            ],
        }


def agreement(one: Attribution, other: Attribution) -> float:
    """Spearman's ρ between two attributions of the same prediction; see `Comparison.rank_correlations`."""
    a, b, template = _on_the_same_features(one, other)
    if bool((a >= 0).all()) or bool((b >= 0).all()):
        a, b = a.abs(), b.abs()
    return rank_correlation(a.T[~template], b.T[~template]).mean().item()


def _on_the_same_features(one: Attribution, other: Attribution) -> tuple[Tensor, Tensor, Tensor]:
    """Both scores by target and feature, on the features of the coarser one, and which of these are template."""
    if len(other.features) < len(one.features):
        b, a, template = _on_the_same_features(other, one)
        return a, b, template
    a, b = (x.scores.double().reshape(len(x), -1) for x in (one, other))
    template = torch.tensor([feature.template for feature in one.features])
    if len(one.features) == len(other.features):
        return a, b, template
    owner = {(feature.part, place): i for i, feature in enumerate(one.features) for place in feature.positions}
    summed = torch.zeros_like(a)
    for k, feature in enumerate(other.features):
        summed[:, owner[feature.part, feature.positions[0]]] += b[:, k]
    return a, summed, template
