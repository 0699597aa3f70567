"""ContextCite: the parts of a prompt that the answer depends on, by a sparse linear surrogate of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import AnyFeatures, ApportionError
from apportion.games import (
    AnyMasker,
    CooperativeGame,
    Players,
    Surrogate,
    as_masker,
    players_of,
    sparse_surrogate,
    target_payoff,
)
from apportion.methods._method import Method, Shares
from apportion.methods._registry import perturbation_method
from apportion.methods.perturbation._games import shares_of
from apportion.targets import AnyTarget
from apportion.task import AttributionTask

#: A prompt with fewer sentences is divided among its words.
FEWEST_SENTENCES = 3

#: Log-probabilities are clamped to this, so that the odds of a certain output stay finite.
_CERTAIN = -1e-7


@perturbation_method(
    "context-cite", conserves="no", cost="ablations + 2 forward", source="Cohen-Wang et al. 2024, arXiv 2409.00729"
)
@dataclass(frozen=True, kw_only=True)
class ContextCite(Method):
    """The weights of a sparse linear function of the present players, fitted to random ablations.

    Each player is removed with probability ½, and LASSO fits the target. With `link="auto"` a probability, a
    log-probability or a `Span` is fitted as log-odds (log p − log(1 − p), as in the paper, so that the scores are in
    log-odds); other targets unchanged. The payoff of a `Span` is divided by its number of tokens for the fit, as in
    the authors' code. Features that are always present get exactly 0.

    Args:
        features: `"sentences"`, `"words"`, `"tokens"`, spans as `Attribution.spans` takes them, or `"auto"`: sentences
            if the prompt has at least 3 that can be removed, else words, and single parts of an image. The result's
            features show which.
        ablations: How many random coalitions the surrogate is fitted to.
        alpha: The strength of LASSO's penalty.
        link: `"auto"` or `"identity"` (the target is fitted unchanged).
        masker: How players are removed; as for leave-one-out. By default words are deleted and parts of an image get
            its mean colour.
        seed: Of the random coalitions.

    Source:
        Cohen-Wang et al. 2024, arXiv 2409.00729. All parts of the prompt are players, not only a context beside a
        query; name the context's parts as spans to restrict the players to it.
    """

    features: Literal["auto"] | AnyFeatures = "auto"
    ablations: int = 64
    alpha: float = 0.01
    link: Literal["auto", "identity"] = "auto"
    masker: AnyMasker = "delete+mean"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.link not in ("auto", "identity"):
            raise ApportionError(f"link={self.link!r} is not known; use 'auto' or 'identity'.")
        if self.alpha <= 0:
            raise ApportionError(f"alpha={self.alpha} is not possible; give a number above 0, such as 0.01.")
        as_masker(self.masker)

    def attribute(self, task: AttributionTask) -> Shares:
        """Fit a surrogate to each prompt."""
        players = [self.players_of(task, b) for b in range(len(task.prompts))]
        found = [self.surrogate(task, b, who) for b, who in enumerate(players)]
        shares = shares_of(task, players, found, chosen=self.features, masker=self.masker)
        if len(found) > 1:
            return shares
        # The surrogate's accuracy on held-out ablations tells whether its weights are meaningful.
        agreement = [None if value != value else value for value in found[0].agreement.tolist()]
        return replace(shares, options={**shares.options, "held_out_rank_correlation": agreement})

    def players_of(self, task: AttributionTask, example: int) -> Players:
        """The players of one of the prompts, also for `features="auto"`."""
        if self.features != "auto":
            return players_of(task, example, self.features)
        sentences = players_of(task, example, "sentences")
        return sentences if len(sentences.groups) >= FEWEST_SENTENCES else players_of(task, example, "words")

    def surrogate(self, task: AttributionTask, example: int, players: Players) -> Surrogate:
        """The sparse linear function for one of the prompts, with its accuracy on held-out ablations."""
        payoff = target_payoff(task, example, players, self.masker)
        if self.link == "auto":
            payoff = _as_log_odds(payoff, task.targets)
        game = CooperativeGame(len(players.groups), payoff, progress=task.progress, label="context-cite")
        rows = zip(task.targets, task.rows[example], strict=True)
        scale = [float(target.terms(places)) for target, places in rows]
        return sparse_surrogate(game, ablations=self.ablations, alpha=self.alpha, scale=scale, seed=self.seed)


def _as_log_odds(payoff: Callable[[Tensor], Tensor], targets: Sequence[AnyTarget]) -> Callable[[Tensor], Tensor]:
    """The payoff with every probability or log-probability as log p − log(1 − p)."""

    def linked(coalitions: Tensor) -> Tensor:
        values = payoff(coalitions).clone()
        for column, target in enumerate(targets):
            if target.likelihood == "probability":
                values[:, column] = _log_odds(values[:, column].clamp_min(torch.finfo(torch.float64).tiny).log())
            elif target.likelihood == "log-probability":
                values[:, column] = _log_odds(values[:, column])
        return values

    return linked


def _log_odds(log_probability: Float[Tensor, " coalitions"]) -> Float[Tensor, " coalitions"]:
    bounded = log_probability.clamp_max(_CERTAIN)
    return bounded - torch.log(-torch.expm1(bounded))
