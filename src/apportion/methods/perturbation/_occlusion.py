"""Occlusion: how much the target drops when a window of neighbouring players is absent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from apportion._errors import ApportionError
from apportion._question import Question
from apportion.games import AnyMasker, AnyPlayers, Players, as_masker, players_of, to_features
from apportion.methods._method import Method, Shares
from apportion.methods._registry import register
from apportion.methods.perturbation._absence import drops


@register(
    "occlusion",
    family="perturbation",
    conserves="no",
    cost="n/stride forward (half of that where a causal model's cache can be used)",
    source="Zeiler & Fergus 2014, arXiv 1311.2901",
)
@dataclass(frozen=True, kw_only=True)
class Occlusion(Method):
    r"""The mean drop $f(x) - f(x \setminus W)$ over the windows $W$ that cover a player, in the target's unit.

    Windows stand side by side within one input; the last one ends with it, so that every player is covered. What is
    always present gets exactly 0.

    Args:
        window: How many neighbouring players are absent together.
        stride: How far a window is moved; at most its length.
        masker: How players are made absent; as for leave-one-out.
        players: Who plays; as for leave-one-out.
        prefix_cache: As for leave-one-out.

    Source:
        Zeiler & Fergus 2014, arXiv 1311.2901, sec. 4.2, for images; the mean over windows makes a score of what they
        draw as a map of window positions.
    """

    window: int = 3
    stride: int = 1
    masker: AnyMasker = "auto"
    players: AnyPlayers = "tokens"
    prefix_cache: bool = True

    def __post_init__(self) -> None:
        if self.window < 1 or not 1 <= self.stride <= self.window:
            raise ApportionError(
                f"window={self.window} with stride={self.stride} leaves players uncovered; "
                "give a window of 1 or more and a stride of 1 to window."
            )
        as_masker(self.masker)

    def attribute(self, question: Question) -> Shares:
        """Move the window over each prompt."""
        scores, features = [], []
        for example in range(len(question.prompts)):
            players = players_of(question, example, self.players)
            covered = self._windows(players)
            values = drops(
                question,
                example,
                players,
                as_masker(self.masker),
                ~covered,
                prefix_cache=self.prefix_cache,
                doing="occlusion",
            )
            weights = covered.to(values)
            means = (weights.T @ values) / weights.sum(0)[:, None]
            scores.append(to_features(players, means))
            features.append(players.features)
        return Shares(
            scores=scores,
            features=None if self.players == "tokens" else features,
            options={"masker": as_masker(self.masker).resolved(question).name},
        )

    def _windows(self, players: Players) -> Bool[Tensor, "windows players"]:
        """Which players each window covers."""
        parts = [players.features[column].part for column in players.columns]
        rows = []
        for part in dict.fromkeys(parts):
            first, count = parts.index(part), parts.count(part)
            last = max(0, count - self.window)
            for start in dict.fromkeys([*range(0, last + 1, self.stride), last]):
                row = torch.zeros(len(parts), dtype=torch.bool)
                row[first + start : first + min(start + self.window, count)] = True
                rows.append(row)
        return torch.stack(rows)
