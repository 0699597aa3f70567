"""The linear_output: an output of the model as a linear function of one row of what the last layer passed on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from apportion.core import ApportionError
from apportion.models.anatomy._anatomy import bias_of, matrix
from apportion.models.anatomy._capturing import OTHERS, Call, Captured, tolerance_of
from apportion.models.anatomy._frozen_norm import frozen_norm

#: Functions that a head may apply without a module of its own; the one that rebuilds what follows is taken.
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu by tanh": lambda z: F.gelu(z, approximate="tanh"),
    "gelu by sigmoid": lambda z: z * torch.sigmoid(1.702 * z),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


@dataclass(frozen=True)
class LinearOutput:
    """A weighted sum of the model's outputs, with norms and activations behind the last layer held fixed.

    Its value is stream[row] · direction + Σ biases: a norm keeps its statistic, an activation its slope
    act(z)/z, as does a cap on the logits.

    Args:
        row: The place in the last layer's output that is read.
        direction: (d,).
        biases: What each bias behind the last layer adds, by the path of its module.
    """

    row: int
    direction: Float[Tensor, " d"]
    biases: Mapping[str, Float[Tensor, ""]]


@dataclass
class _Way:
    """How far the way back has come: the vector that is read here, and the target's direction at it."""

    vector: Tensor
    direction: Tensor
    biases: dict[str, Tensor] = field(default_factory=dict)

    def add(self, path: str, amount: Tensor) -> None:
        self.biases[path] = self.biases.get(path, torch.zeros_like(amount)) + amount


def linear_output(
    model: nn.Module, seen: Captured, logits: Float[Tensor, " outputs"], weights: Float[Tensor, " outputs"]
) -> LinearOutput:
    """Follow a weighted sum of outputs back to the last layer, through linear maps, norms and activations.

    Each step is found by the numbers themselves: whose output holds a row equal to what is read here?

    Args:
        model: The model, for the cap on its logits.
        seen: A watched pass.
        logits: The row of outputs that the target reads, as the model returned them.
        weights: What each output counts.

    Raises:
        ApportionError: Something else lies between, such as a pooling over places.
    """
    way = _unembedded(model, seen, logits, weights)
    stream = seen.last[0]
    for _ in range(len(seen.calls) + 1):
        row = _row_of(stream, way.vector)
        if row is not None:
            found = LinearOutput(row, way.direction, way.biases)
            _check(found, stream, logits, weights, model)
            return found
        if not (_one_step(seen, way) or _activation(seen, way)):
            break
    raise ApportionError(
        f"what {type(model).__name__} reads of its last layer is not one place through linear maps, norms and "
        f"activations that could be found, so this method cannot follow its outputs back; {OTHERS}."
    )


def _unembedded(model: nn.Module, seen: Captured, logits: Tensor, weights: Tensor) -> _Way:
    """The first step back: the linear map that made the outputs, which may then have been scaled or capped."""
    cap: float = getattr(getattr(model, "config", None), "final_logit_softcapping", None) or 0.0
    for call in reversed(seen.calls):
        if not call.is_linear or call.output.shape[-1] != len(logits):
            continue
        rows = call.output.reshape(-1, len(logits))
        for capped in (False, True) if cap else (False,):
            row, slope = _scaled_row(torch.tanh(rows / cap) * cap if capped else rows, logits)
            if row is None:
                continue
            if capped:
                slope = slope * torch.where(rows[row] == 0, 1.0, logits / rows[row])
            way = _Way(logits, weights * slope)
            _through_linear(call, row, way)
            return way
    raise ApportionError(
        f"the outputs of {type(model).__name__} are not what a linear map gave, so this method cannot follow them "
        f"back; {OTHERS}."
    )


def _scaled_row(rows: Tensor, vector: Tensor) -> tuple[int | None, Tensor]:
    """The row that a vector is a multiple of, and the factor; None for none. A factor of 1 goes first."""
    wide, goal = rows.double(), vector.double()
    factors = (wide @ goal) / (wide * wide).sum(-1)
    off = (wide * factors[:, None] - goal).norm(dim=-1) / goal.norm()
    off = torch.where(factors.abs() > 0, off, torch.inf) + 1e-9 * (factors - 1).abs()
    best = int(off.argmin())
    if not off[best] <= tolerance_of(rows):
        return None, factors.new_ones(())
    return best, factors[best].to(rows.dtype)


def _row_of(tensor: Tensor, vector: Tensor) -> int | None:
    """The row of a tensor that holds this vector."""
    if tensor.shape[-1] != len(vector) or not tensor.is_floating_point():
        return None
    off = (tensor.reshape(-1, len(vector)) - vector).double().norm(dim=-1)
    best = int(off.argmin())
    return best if off[best] <= tolerance_of(vector) * vector.double().norm() else None


def _one_step(seen: Captured, way: _Way) -> bool:
    """Go back through the norm or linear map that gave what is read here."""
    for call in reversed(seen.calls):
        row = _row_of(call.output, way.vector)
        if row is None or len(call.output.reshape(-1, len(way.vector))) != call.input[..., 0].numel():
            continue
        if (_through_linear if call.is_linear else _through_norm)(call, row, way):
            return True
    return False


def _through_linear(call: Call, row: int, way: _Way) -> bool:
    bias = bias_of(call.module)
    if bias is not None:
        way.add(call.path, bias.to(way.direction) @ way.direction)
    way.direction = matrix(call.module).to(way.direction).T @ way.direction
    way.vector = call.input.reshape(-1, call.input.shape[-1])[row]
    return True


def _through_norm(call: Call, row: int, way: _Way) -> bool:
    d = call.input.shape[-1]
    came = call.input.reshape(-1, d)[row]
    norm = frozen_norm(Call(call.path, call.module, came[None], way.vector[None]))
    if norm is None:
        return False
    if norm.bias is not None:
        way.add(call.path, norm.bias @ way.direction)
    way.direction = norm.pulled(way.direction) * norm.statistic
    way.vector = came
    return True


def _activation(seen: Captured, way: _Way) -> bool:
    """Go back through an element-wise function by its slope act(z)/z."""
    for call in reversed(seen.calls):
        if call.output.shape[-1] != len(way.vector) or not call.output.is_floating_point():
            continue
        for function in ACTIVATIONS.values():
            row = _row_of(function(call.output), way.vector)
            if row is not None:
                came = call.output.reshape(-1, len(way.vector))[row]
                way.direction = way.direction * torch.where(came == 0, 0.0, way.vector / came)
                way.vector = came
                return True
    return False


def _check(found: LinearOutput, stream: Tensor, logits: Tensor, weights: Tensor, model: Any) -> None:
    value = stream[found.row] @ found.direction + sum(found.biases.values())
    size = max((logits * weights).abs().max(), (stream[found.row] * found.direction).abs().max())
    if not (value - logits @ weights).abs() <= tolerance_of(stream) * size:
        raise ApportionError(
            f"what stands behind the last layer of {type(model).__name__} does not rebuild its outputs, so this "
            f"method cannot follow them back; {OTHERS}."
        )
