"""SmoothGrad: the gradient averaged over noise added to embeddings and images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from apportion.core import ApportionError
from apportion.methods._method import OneByOne, Shares
from apportion.methods._registry import backward_method
from apportion.methods.backward._counts import check_batch_size, check_count
from apportion.methods.backward._neighbourhood import Neighbourhood, Place, Point
from apportion.task import AttributionTask

SCORES = ("l2", "l1", "input-x-gradient")


@backward_method(
    "smoothgrad",
    conserves="no",
    cost="17 forward, 16 backward (samples=16)",
    source="Smilkov et al. 2017, arXiv 1706.03825",
)
@dataclass(frozen=True, kw_only=True)
class SmoothGrad(OneByOne):
    r"""The mean gradient over noisy copies of the input, $\bar g_i = \frac1n \sum_s \nabla_i f(x + \epsilon_s)$.

    Noise $\epsilon_s \sim N(0, \sigma^2)$ is added to each token's embedding and to each element of an image. The
    gradients of all samples are kept in memory until the end, since the standard errors need them.

    Args:
        samples: Noisy copies, at least 2.
        noise: $\sigma$ relative to the range (largest less smallest number) of the prompt's embeddings, or of its
            image: the paper's "noise level" $\sigma / (x_{max} - x_{min})$. It recommends 0.1 to 0.2 for images.
        score: The score of a token or region from its mean gradient: the norm, `"l2"` or `"l1"`, never negative; or
            `"input-x-gradient"`, the signed product with the input. The paper shows the size of the gradient, and
            leaves the product open in section 2.2.
        seed: Of the noise.
        batch_size: How many samples run as one batch; by default enough for about 2,000 tokens.

    Raises:
        ApportionError: An option does not fit.

    Source:
        Smilkov et al. 2017, arXiv 1706.03825, section 3. The standard errors are ours: of a product they are those
        of a mean, of a norm those of its linear part at the mean gradient (the delta method).
    """

    samples: int = 16
    noise: float = 0.1
    score: Literal["l2", "l1", "input-x-gradient"] = "l2"
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_count("samples", self.samples, least=2)
        check_count("seed", self.seed, least=0)
        check_batch_size(self.batch_size)
        if self.score not in SCORES:
            raise ApportionError(f"score={self.score!r} is not known; use {', '.join(map(repr, SCORES))}.")
        if not 0 < self.noise < float("inf"):
            raise ApportionError(f"noise={self.noise!r} is not possible; give a number above 0, such as 0.1.")

    def alone(self, task: AttributionTask) -> Shares:
        """Average over samples, which share forward passes for all targets."""
        near = Neighbourhood(task, batch_size=self.batch_size, doing="averaging gradients")
        generator = torch.Generator().manual_seed(self.seed)
        sizes = {place: self.noise * (x.max() - x.min()) for place, x in near.here.items()}

        def point(_: int) -> Point:
            return {place: x + sizes[place] * _normal(x, generator) for place, x in near.here.items()}

        drawn: dict[Place, list[Tensor]] = {place: [] for place in near.here}
        for gradients in near.derivatives(self.samples, point):
            for place, gradient in gradients.items():
                drawn[place].append(gradient)
        by_sample = self._linear(near, drawn)
        mean, error = by_sample.mean(0), by_sample.std(0) / self.samples**0.5
        if self.score == "l2":  # the mean of the products with the mean gradient is its norm squared
            mean = mean.sqrt()
            error = torch.where(mean > 0, error / mean, 0.0)
        return Shares(scores=[mean], standard_errors=[error])

    def _linear(self, near: Neighbourhood, drawn: Mapping[Place, list[Tensor]]) -> Tensor:
        """Each sample's part in the score, by sample, target, feature: its product with the score's gradient."""
        along: dict[Place, Tensor] = {}
        for place, gradients in drawn.items():
            mean = torch.stack(gradients).mean(0)
            along[place] = {"l2": mean, "l1": mean.sign(), "input-x-gradient": near.here[place]}[self.score]
        samples = range(self.samples)
        return torch.stack([near.shares({place: along[place] * drawn[place][s] for place in along}) for s in samples])


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise, drawn in float32 on the CPU, so that a seed gives the same noise on every device."""
    return torch.randn(like.shape, generator=generator).to(like)
