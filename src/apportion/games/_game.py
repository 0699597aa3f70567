"""A cooperative game: players, and the payoff of every coalition of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.core import progress as shown
from apportion.games._coalition_cache import CoalitionCache

#: How many coalitions are passed to the payoff at once.
AT_ONCE = 256

#: With a cache the chunks start at this size and double while a chunk takes less than this many seconds.
KEPT_AT_ONCE = 32
KEPT_SECONDS = 10.0


class CooperativeGame:
    """A cooperative game whose payoff may be a vector; every distinct coalition is evaluated once.

    Args:
        players: The number of players.
        payoff: Maps coalitions (a row each, true where a player is present) to payoffs (a row of outputs each). NaN
            means undefined, and is passed on.
        budget: The maximal number of coalitions to evaluate; None for no limit.
        progress: Whether to show a progress bar.
        label: The text of the progress bar.
        cache: A file of evaluated coalitions, which is read first and extended.

    Raises:
        ApportionError: There is no player, or the cache holds a game with another number of players.
    """

    def __init__(
        self,
        players: int,
        payoff: Callable[[Tensor], Tensor],
        *,
        budget: int | None = None,
        progress: bool = False,
        label: str = "coalitions",
        cache: CoalitionCache | None = None,
    ) -> None:
        if players < 1:
            raise ApportionError(f"a game needs at least 1 player to divide its payoff among; {players} were given.")
        self.players = players
        self.budget = budget
        self.progress = progress
        self.label = label
        self._payoff = payoff
        self._places: dict[bytes, int] = {}
        self._known: Tensor | None = None
        self._cache = cache
        self._evaluated = torch.zeros(0, players, dtype=torch.bool)
        if cache is not None and cache.found is not None:
            self._learn(*cache.found)

    @property
    def evaluations(self) -> int:
        """How many distinct coalitions have been evaluated, those in the cache included."""
        return len(self._places)

    @cached_property
    def empty(self) -> Float[Tensor, " outputs"]:
        """The payoff with no player."""
        return self.values(torch.zeros(1, self.players, dtype=torch.bool))[0]

    @cached_property
    def full(self) -> Float[Tensor, " outputs"]:
        """The payoff with all players."""
        return self.values(torch.ones(1, self.players, dtype=torch.bool))[0]

    def values(self, coalitions: Bool[Tensor, "coalitions players"]) -> Float[Tensor, "coalitions outputs"]:
        """The payoffs of coalitions, in float64; only new coalitions are evaluated.

        Raises:
            ApportionError: The budget would be exceeded (then nothing is evaluated), the coalitions have another number
                of players, or the payoff does not return a row for each.
        """
        if coalitions.shape[1] != self.players or not len(coalitions):
            raise ApportionError(
                f"coalitions of shape {tuple(coalitions.shape)} were given; the game has {self.players} players, "
                "so give at least one row of that length."
            )
        keys = _keys(coalitions)
        missing = {key: i for i, key in enumerate(keys) if key not in self._places}
        if missing:
            self._evaluate(missing, coalitions)
        assert self._known is not None
        return self._known[[self._places[key] for key in keys]]

    def _evaluate(self, missing: dict[bytes, int], coalitions: Tensor) -> None:
        needed = self.evaluations + len(missing)
        if self.budget is not None and needed > self.budget:
            raise ApportionError(f"{needed} coalitions are needed, but budget={self.budget} allows fewer; raise it.")
        # Sorted by size, so that the prompts of one batch have similar lengths.
        chosen = coalitions.cpu()[sorted(missing.values(), key=lambda i: int(coalitions[i].sum()))]
        for _ in shown(self._chunks(chosen), self.label, show=self.progress, total=len(chosen)):
            pass

    def _chunks(self, coalitions: Tensor) -> Iterator[Tensor]:
        """Evaluate coalitions in chunks; yields each row that is done."""
        at_once = AT_ONCE if self._cache is None else KEPT_AT_ONCE
        while len(coalitions):
            chunk, coalitions = coalitions[:at_once], coalitions[at_once:]
            start = time.perf_counter()
            self._learn(chunk, self._paid(chunk))
            if self._cache is not None:
                assert self._known is not None
                self._cache.write(self._evaluated, self._known)
            if time.perf_counter() - start < KEPT_SECONDS:
                at_once = min(AT_ONCE, 2 * at_once)
            yield from chunk

    def _learn(self, coalitions: Tensor, payoffs: Tensor) -> None:
        if coalitions.shape[1] != self.players or len(coalitions) != len(payoffs):
            raise ApportionError(
                f"the cache holds a game of {coalitions.shape[1]} players, not {self.players}; use another path."
            )
        self._known = payoffs if self._known is None else torch.cat([self._known, payoffs])
        self._evaluated = torch.cat([self._evaluated, coalitions])
        for key in _keys(coalitions):
            self._places[key] = len(self._places)

    def _paid(self, coalitions: Tensor) -> Tensor:
        payoffs = self._payoff(coalitions).detach().double().cpu()
        outputs = "outputs" if self._known is None else self._known.shape[1]
        if payoffs.ndim != 2 or len(payoffs) != len(coalitions) or outputs not in ("outputs", payoffs.shape[1]):
            raise ApportionError(
                f"the payoff of {len(coalitions)} coalitions has shape {tuple(payoffs.shape)}; "
                f"it must have the shape ({len(coalitions)}, {outputs})."
            )
        return payoffs


def _keys(coalitions: Tensor) -> list[bytes]:
    """A hashable key for each coalition."""
    return [row.tobytes() for row in np.packbits(coalitions.cpu().numpy(), axis=1)]
