"""Occlusion: the drop of the target when a window of neighbouring players is removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from apportion.core import AnyFeatures, ApportionError
from apportion.games import AnyMasker, Players, as_masker, in_prompt, players_of, to_features
from apportion.methods._method import Method, Shares
from apportion.methods._registry import perturbation_method
from apportion.methods.perturbation._absence import drops
from apportion.models.inputs import Prompt
from apportion.task import AttributionTask

#: The index of the grid's first feature, and its numbers of rows and columns.
Grid = tuple[int, int, int]


@perturbation_method(
    "occlusion",
    conserves="no",
    cost="n/stride forward (half of that where a causal model's cache can be used)",
    source="Zeiler & Fergus 2014, arXiv 1311.2901",
)
@dataclass(frozen=True, kw_only=True)
class Occlusion(Method):
    r"""The mean drop $f(x) - f(x \setminus W)$ over the windows $W$ that cover a player, in the target's unit.

    Windows lie within one input; the last one ends with it, so that every player is covered. On an image that is
    divided by a grid they are squares; regions without a grid are removed one at a time, since their numbers do not
    tell which are neighbours. Features that are always present get exactly 0.

    Args:
        window: How many neighbouring players are removed together; on an image, the side of a square of patches.
        stride: The distance between windows; at most their length.
        masker: How players are removed; as for leave-one-out.
        features: The players; as for leave-one-out.
        prefix_cache: As for leave-one-out.

    Source:
        Zeiler & Fergus 2014, arXiv 1311.2901, sec. 4.2, for images; they draw a map of window positions, whose mean
        over windows is the score here.
    """

    window: int = 3
    stride: int = 1
    masker: AnyMasker = "auto"
    features: AnyFeatures = "tokens"
    prefix_cache: bool = True

    def __post_init__(self) -> None:
        if self.window < 1 or not 1 <= self.stride <= self.window:
            raise ApportionError(
                f"window={self.window} with stride={self.stride} leaves players uncovered; "
                "give a window of 1 or more and a stride of 1 to window."
            )
        as_masker(self.masker)

    def attribute(self, task: AttributionTask) -> Shares:
        """Move the window over each prompt."""
        scores, features = [], []
        for example in range(len(task.prompts)):
            players = players_of(task, example, self.features)
            covered, masker = self._windows(players, _grids(task.prompts[example])), as_masker(self.masker)
            values = drops(task, example, players, masker, ~covered, self.prefix_cache, "occlusion")
            weights = covered.to(values)
            scores.append(to_features(players, (weights.T @ values) / weights.sum(0)[:, None]))
            features.append(players.features)
        return Shares(
            scores=scores,
            features=None if self.features in ("tokens", "patches") else features,
            options={"masker": in_prompt(as_masker(self.masker), task).name},
        )

    def _windows(self, players: Players, grids: Mapping[int, Grid] | None = None) -> Bool[Tensor, "windows players"]:
        """The players that each window covers, given the grids of pictures that have one."""
        grids = grids or {}
        places: dict[tuple[str, int | None], list[int]] = {}
        for player, column in enumerate(players.columns):
            feature = players.features[column]
            places.setdefault((feature.part, feature.image), []).append(player)
        rows: list[list[int]] = []
        for (_, image), mine in places.items():
            numbers = [players.groups[player] for player in mine]
            if image is None:
                rows += [[mine[i] for i in window] for window in self._along(len(mine))]
            elif image in grids and all(len(group) == 1 for group in numbers):
                first, height, width = grids[image]
                at = {group[0] - first: player for group, player in zip(numbers, mine, strict=True)}
                for down in self._along(height):
                    for across in self._along(width):
                        rows.append([at[r * width + c] for r in down for c in across if r * width + c in at])
            else:
                rows += [[player] for player in mine]
        covered = torch.zeros(len(rows), len(players.columns), dtype=torch.bool)
        for row, members in enumerate(rows):
            covered[row, members] = True
        return covered[covered.any(1)]

    def _along(self, count: int) -> list[range]:
        """The places that each window covers on a line of `count` places."""
        last = max(0, count - self.window)
        starts = dict.fromkeys([*range(0, last + 1, self.stride), last])
        return [range(start, min(start + self.window, count)) for start in starts]


def _grids(prompt: Prompt) -> dict[int, Grid]:
    """The grid of each picture whose features form one."""
    found: dict[int, Grid] = {}
    at, image = 0, 0
    for continuous in prompt.continuous_inputs:
        for picture in continuous.pictures:
            owner = picture.owner.long()
            first, columns = int(owner[0, 0]), len(owner[0].unique())
            rows = len(owner[:, 0].unique())
            even = first + (owner[:, :1] - first) + (owner[:1] - first)
            regular = owner[:, 0].unique() - first == columns * torch.arange(rows, device=owner.device)
            if torch.equal(even, owner) and bool(regular.all()) and int(owner.max()) == first + rows * columns - 1:
                found[image] = at + first, rows, columns
            image += 1
        at += continuous.count
    return found
