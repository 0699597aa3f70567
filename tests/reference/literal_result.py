"""What a literal implementation hands back: where every share of the target went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LiteralRelevance:
    """Relevance of one logit for one sequence, by where it ended.

    Args:
        logits: All logits of the literal forward pass.
        total: The logit that was explained.
        tokens: Relevance of each word embedding.
        positions: Relevance of each position embedding; None where the model has none.
        token_types: Relevance of each token-type embedding; None where the model has none.
        biases: What each bias keeps, by parameter name.
        softmax_remainder: What the softmaxes of each layer keep; all 0 under CP-LRP.
        layers: Relevance of each layer's output, by position.
    """

    logits: Float[Tensor, "*position vocab"]
    total: float
    tokens: Float[Tensor, " seq"]
    positions: Float[Tensor, " seq"] | None = None
    token_types: Float[Tensor, " seq"] | None = None
    biases: Mapping[str, float]
    softmax_remainder: tuple[float, ...]
    layers: Float[Tensor, "layer seq"]

    @property
    def absorbed_by_biases(self) -> float:
        """What all biases keep together."""
        return sum(self.biases.values())

    @property
    def residual(self) -> float:
        """What no account holds; 0 up to rounding."""
        inputs = [inputs for inputs in (self.tokens, self.positions, self.token_types) if inputs is not None]
        passed_on = sum(float(relevance.sum()) for relevance in inputs)
        return self.total - passed_on - self.absorbed_by_biases - sum(self.softmax_remainder)
