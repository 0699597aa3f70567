"""Leave-one-out: the drop of the target when a single player is removed."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from apportion.core import AnyFeatures
from apportion.games import AnyMasker, as_masker, in_prompt, players_of, to_features
from apportion.methods._method import Method, Shares
from apportion.methods._registry import perturbation_method
from apportion.methods.perturbation._absence import drops
from apportion.task import AttributionTask


@perturbation_method(
    "leave-one-out",
    conserves="no",
    cost="n forward (n/2 where a causal model's cache can be used)",
    source="Li et al. 2016, arXiv 1612.08220",
)
@dataclass(frozen=True, kw_only=True)
class LeaveOneOut(Method):
    r"""The difference that removing one player makes: $f(x) - f(x \setminus i)$, in the target's unit.

    Features that are always present (template tokens, the explained answer, the mask that is read) get exactly 0.

    Args:
        masker: How a player is removed: `"delete"`, `"attention-mask"`, `"replace"`, `"replace(pad)"`, `"zero"`,
            `"mean"`, `"auto"` (the mask token if the tokenizer has one, else deletion), or a `Masker`. For an image:
            `"mean"` (its mean colour; this is `"auto"`), `"zero"`, `"blur"`, `"inpaint"`, `"drop-tokens"`. For text
            with an image, `"delete+blur"` names one masker for each.
        features: `"tokens"` or `"patches"` (every feature), `"words"`, `"sentences"`, or spans as `Attribution.spans`
            takes them (then only these are players); the scores belong to these.
        prefix_cache: Whether a causal model reads the tokens before the removed player only once. The values are the
            same; models with an unusual cache read each changed prompt whole.

    Source:
        Li et al. 2016, arXiv 1612.08220, eq. 1, whose difference is relative to f(x); here it is in the target's unit.
    """

    masker: AnyMasker = "auto"
    features: AnyFeatures = "tokens"
    prefix_cache: bool = True

    def __post_init__(self) -> None:
        as_masker(self.masker)

    def attribute(self, task: AttributionTask) -> Shares:
        """Leave each player out in turn."""
        scores, features = [], []
        for example in range(len(task.prompts)):
            players = players_of(task, example, self.features)
            others = ~torch.eye(len(players.groups), dtype=torch.bool)
            masker = as_masker(self.masker)
            values = drops(task, example, players, masker, others, self.prefix_cache, "leave-one-out")
            scores.append(to_features(players, values))
            features.append(players.features)
        return Shares(
            scores=scores,
            features=None if self.features in ("tokens", "patches") else features,
            options={"masker": in_prompt(as_masker(self.masker), task).name},
        )
