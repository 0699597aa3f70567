"""Leave-one-out: how much the target drops when a single player is absent."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from apportion.core import AnyFeatures
from apportion.games import AnyMasker, as_masker, in_prompt, players_of, to_features
from apportion.methods._method import Method, Shares
from apportion.methods._registry import register
from apportion.methods.perturbation._absence import drops
from apportion.task import AttributionTask


@register(
    "leave-one-out",
    family="perturbation",
    conserves="no",
    cost="n forward (n/2 where a causal model's cache can be used)",
    source="Li et al. 2016, arXiv 1612.08220",
)
@dataclass(frozen=True, kw_only=True)
class LeaveOneOut(Method):
    r"""The difference that one player makes to all others: $f(x) - f(x \setminus i)$, in the target's unit.

    What is always present (template tokens, the explained answer, the mask that is read) gets exactly 0.

    Args:
        masker: How a player is made absent: `"delete"`, `"attention-mask"`, `"replace"`, `"replace(pad)"`, `"zero"`,
            `"mean"`, `"auto"` (the mask token where the tokenizer has one, else deletion), or a `Masker`. Of an image:
            `"mean"` (its mean colour; this is `"auto"`), `"zero"`, `"blur"`, `"inpaint"`, `"drop-tokens"`. Beside an
            image, `"delete+blur"` names one for the text and one for the image.
        features: `"tokens"` or `"patches"` (every feature), `"words"`, `"sentences"`, or spans as `Attribution.spans`
            takes them (then only they play); the scores belong to these.
        prefix_cache: Whether a causal model reads what stands before the absent player only once. The values are the
            same; where the model's cache is no ordinary one, each changed prompt is read whole.

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
            alone = ~torch.eye(len(players.groups), dtype=torch.bool)
            values = drops(
                task,
                example,
                players,
                as_masker(self.masker),
                alone,
                prefix_cache=self.prefix_cache,
                doing="leave-one-out",
            )
            scores.append(to_features(players, values))
            features.append(players.features)
        return Shares(
            scores=scores,
            features=None if self.features in ("tokens", "patches") else features,
            options={"masker": in_prompt(as_masker(self.masker), task).name},
        )
