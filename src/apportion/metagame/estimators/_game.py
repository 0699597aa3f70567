"""A metagame: players are features, and a coalition's payoffs are the attributions with only its features present."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.core import ApportionError, NonFiniteRelevance
from apportion.games import CoalitionCache, CooperativeGame


class MetaGame:
    r"""One game for each target, all of them evaluated on the same coalitions.

    In the game of a target i that is a player, i is always present and the other n − 1 players join it: the payoff of a
    coalition S is $\varphi_i(S \cup i)$. One evaluation of a coalition T is thus used in the games of all
    targets in T at once, with S = T∖i. In the game of a target that is not a player, all n players join. The other
    options are those of `CooperativeGame`.

    Args:
        players: How many there are.
        payoff: From coalitions (a row each, true where a player is present) to the attributions of all targets, a row
            each; its value for a target that is an absent player is ignored.
        player_of: For each target the index of its player, or None. Several targets may be the same player, such as
            its attributions to several outputs.

    Raises:
        ApportionError: There is no player or no target, or an index is out of range.

    Source:
        Baniecki, Biecek and Fumagalli 2026, arXiv 2605.06295; coalitions shared by all targets are our own.
    """

    def __init__(
        self,
        players: int,
        payoff: Callable[[Tensor], Tensor],
        player_of: Sequence[int | None],
        *,
        budget: int | None = None,
        progress: bool = False,
        label: str = "coalitions",
        cache: CoalitionCache | None = None,
    ) -> None:
        if not player_of or any(player is not None and not 0 <= player < players for player in player_of):
            raise ApportionError(f"the targets {list(player_of)} must be among the {players} players, or None.")
        self.players = players
        self.player_of: tuple[int | None, ...] = tuple(player_of)
        game = CooperativeGame(players, payoff, budget=budget, progress=progress, label=label, cache=cache)
        self.game: CooperativeGame = game

    @property
    def targets(self) -> int:
        """How many targets there are."""
        return len(self.player_of)

    @property
    def evaluations(self) -> int:
        """How many distinct coalitions have been evaluated."""
        return self.game.evaluations

    def present(self, coalitions: Bool[Tensor, "coalitions players"]) -> Bool[Tensor, "coalitions targets"]:
        """Which targets are present in each coalition: its members, and all targets that are not players."""
        always = torch.ones(len(coalitions), dtype=torch.bool)
        return torch.stack([always if p is None else coalitions[:, p] for p in self.player_of], 1)

    def values(self, coalitions: Bool[Tensor, "coalitions players"]) -> Float[Tensor, "coalitions targets"]:
        """The attributions of all targets, in float64; exactly 0 for a target that is absent.

        Raises:
            ApportionError: The budget would be exceeded.
            NonFiniteRelevance: A present target's attribution is NaN or infinite.
        """
        present = self.present(coalitions)
        payoffs = torch.where(present, self.game.values(coalitions), 0.0)
        if not bool(torch.isfinite(payoffs).all()):
            wrong = int((~torch.isfinite(payoffs)).any(1).sum())
            raise NonFiniteRelevance(
                f"the attributions of {wrong} of {len(payoffs)} coalitions are NaN or infinite; choose a masker, a "
                "method or a target that is finite for every coalition."
            )
        return payoffs

    @cached_property
    def first_order(self) -> Float[Tensor, " targets"]:
        """The attributions with all players present."""
        return self.values(torch.ones(1, self.players, dtype=torch.bool))[0]

    @cached_property
    def main_effect(self) -> Float[Tensor, " targets"]:
        """The attribution of each target with no other player present."""
        wanted = [torch.arange(self.players) == (-1 if p is None else p) for p in self.player_of]
        return self.values(torch.stack(wanted)).diagonal().clone()
