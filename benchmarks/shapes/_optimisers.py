"""How the small models are trained: Muon for the layers' matrices, AdamW for everything else."""

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW, Muon, Optimizer


class Descent:
    """Steps down a loss: 2% of the steps to warm up, half at full rate, then down to nothing in a straight line.

    In short runs on this data Muon reached the loss of AdamW alone in about half of the steps.
    """

    def __init__(self, modules: Iterable[nn.Module], steps: int, *, rate: float = 1e-3, matrix_rate: float = 0.02):
        named = [pair for module in modules for pair in module.named_parameters() if pair[1].requires_grad]
        matrices = [weight for name, weight in named if weight.ndim == 2 and "layers." in name]
        others = [weight for name, weight in named if not (weight.ndim == 2 and "layers." in name)]
        self.weights = matrices + others
        self.optimisers: list[Optimizer] = [
            Muon(matrices, lr=matrix_rate, weight_decay=0.01),
            AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.01),
        ]
        self.rates = (matrix_rate, rate)
        self.taken, self.steps = 0, steps

    def step(self, loss: Tensor) -> None:
        """One step along the gradient of `loss`, whose length is at most 1."""
        part = self.taken / self.steps
        for optimiser, rate in zip(self.optimisers, self.rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * min(1, (part + 1 / self.steps) / 0.02, 2 * (1 - part))
            optimiser.zero_grad()
        loss.backward()
        clip_grad_norm_(self.weights, 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.taken += 1
