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

#: How many coalitions the payoff is asked for at once.
AT_ONCE = 256

#: Where a game is kept in a file, how many at first; then twice as many as long as they take fewer seconds than these.
KEPT_AT_ONCE = 32
KEPT_SECONDS = 10.0


class CooperativeGame:
    """A cooperative game whose payoff may be a vector; every distinct coalition is evaluated once.

    Args:
        players: How many there are.
        payoff: From coalitions (a row each, true where a player is present) to their payoffs, a row of outputs
            each. NaN stands for what is not defined, and is passed on.
        budget: The most coalitions that may be evaluated; None for no limit.
        progress: Whether a progress bar may be shown.
        label: What the progress bar says.
        cache: A file of what has been evaluated, which is gone on with and added to; None for none.

    Raises:
        ApportionError: There is no player, or the file is of a game of other players.
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
        """How many distinct coalitions were evaluated until now, those in the file included."""
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
        """The payoffs of coalitions, in float64; only those never seen before are evaluated.

        Raises:
            ApportionError: The budget would be exceeded (then nothing is evaluated), the coalitions are of another
                number of players, or the payoff does not give a row for each.
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
            raise ApportionError(
                f"{needed} coalitions are needed, but budget={self.budget} is the most that may be evaluated; raise it."
            )
        # Of similar size together, so that what the payoff runs at once is of similar length.
        chosen = coalitions.cpu()[sorted(missing.values(), key=lambda i: int(coalitions[i].sum()))]
        whole = shown(self._chunks(chosen), self.label, show=self.progress, total=len(chosen))
        for row in whole:
            del row

    def _chunks(self, coalitions: Tensor) -> Iterator[Tensor]:
        """Evaluate coalitions some at a time; the rows of those that are done."""
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
                f"what was kept is of {coalitions.shape[1]} players and the game of {self.players}; give another path."
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
    """What tells coalitions of one game apart."""
    return [row.tobytes() for row in np.packbits(coalitions.cpu().numpy(), axis=1)]
