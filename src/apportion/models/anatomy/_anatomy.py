"""The anatomy of a transformer: what each layer adds to the residual stream, found by structure and verified."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from apportion.core import ApportionError
from apportion.models.anatomy._attention import Heads
from apportion.models.anatomy._capturing import OTHERS, Call, Captured, Frame, captured, same, tolerance_of
from apportion.models.anatomy._frozen_norm import FrozenNorm, frozen_norm
from apportion.models.anatomy._mixes_tokens import check_tokens_mix_in_attention


@dataclass(frozen=True)
class Layer:
    r"""One layer of a stack, by what it adds to the residual stream at each of n places.

    With everything that depends on the input held fixed, except the streams,

    $\text{middle} = N_m(x + \kappa N_a(\sum_h A_h V_h W_O^h + b_O))$ and $\text{output} = N_o(\text{middle} + m)$

    where N are frozen norms, each of which may be absent: pre-LN has none of the three, post-LN (BERT) has N_m and N_o,
    Gemma 2 has N_a. In a parallel block, `middle` is the stream without the MLP.

    Args:
        path: The layer module's path.
        input: x, the incoming stream.
        middle: The stream after the attention.
        total: middle + m, before N_o.
        output: The outgoing stream; the same tensor as the next layer's `input`.
        heads: Queries, keys, values and mask, from which `probabilities` are computed.
        value: The linear map whose output contains the values.
        projection: The linear map of the mixed heads back into the stream.
        projection_path: Its path.
        input_norm: The norm of x before the attention, or None.
        attention_norm: N_a, or None.
        scale: κ, 1 in most models.
        middle_norm: N_m, or None.
        output_norm: N_o, or None.
    """

    path: str
    input: Float[Tensor, "n d"]
    middle: Float[Tensor, "n d"]
    total: Float[Tensor, "n d"]
    output: Float[Tensor, "n d"]
    heads: Heads
    value: nn.Module
    projection: nn.Module
    projection_path: str
    input_norm: FrozenNorm | None
    attention_norm: FrozenNorm | None
    scale: float
    middle_norm: FrozenNorm | None
    output_norm: FrozenNorm | None

    @property
    def mlp(self) -> Float[Tensor, "n d"]:
        """m, what the MLP (or mixture of experts) adds."""
        return self.total - self.middle

    @property
    def probabilities(self) -> Float[Tensor, "head n n"]:
        """A, computed anew at each call."""
        return self.heads.probabilities()[0]

    @property
    def values(self) -> Float[Tensor, "kv_head n d_head"]:
        """V, with its bias; each is shared by `heads.groups` neighbouring heads."""
        return self.heads.value[0]

    @property
    def w_o(self) -> Float[Tensor, "head d_head d"]:
        """W_O of each head; a view of the model's own."""
        return matrix(self.projection).T.unflatten(0, (self.heads.query.shape[1], -1))

    @property
    def b_o(self) -> Float[Tensor, " d"] | None:
        """b_O, or None."""
        return bias_of(self.projection)

    @property
    def row_scale(self) -> Float[Tensor, " n"] | None:
        """κ times the statistics of N_a and N_m by place, which scale each row besides the fixed maps of the norms."""
        norms = [norm.statistic for norm in (self.attention_norm, self.middle_norm) if norm is not None]
        if not norms and self.scale == 1:
            return None
        return self.scale * torch.stack([*norms, torch.ones_like(self.input[:, 0])]).prod(0)

    def weights(self) -> Float[Tensor, "head n n"]:
        """A with each row scaled as by the frozen norms after the attention; see `messages`."""
        scale = self.row_scale
        return self.probabilities if scale is None else self.probabilities * scale[:, None]

    def messages(self, places: slice = slice(None)) -> Float[Tensor, "head place d"]:
        """f_h(x_s) = V_s W_O^h at some places, through the fixed maps of the norms after the attention.

        `middle` = Σ_h weights_h @ messages_h + `own` + `constants`, exactly.
        """
        messages = self.values[:, places].repeat_interleave(self.heads.groups, 0) @ self.w_o
        for norm in (self.attention_norm, self.middle_norm):
            messages = messages if norm is None else norm.mapped(messages)
        return messages

    def own(self) -> Float[Tensor, "n d"]:
        """The contribution of each place's input to its `middle` by the residual connection."""
        return self.input if self.middle_norm is None else self.middle_norm(self.input)

    def constants(self) -> Iterator[tuple[str, Float[Tensor, "n d"]]]:
        """The constants in `middle`, by the parameter's path: b_O, and the biases of N_a and N_m."""
        behind = self.middle_norm
        through = (lambda v: v) if behind is None else behind
        if self.b_o is not None:
            bias = self.b_o.expand_as(self.input)
            bias = bias if self.attention_norm is None else self.attention_norm(bias)
            yield self.projection_path, through(self.scale * bias)
        if self.attention_norm is not None and self.attention_norm.bias is not None:
            bias = self.attention_norm.bias.expand_as(self.input)
            yield self.attention_norm.path, through(self.scale * bias)
        if behind is not None and behind.bias is not None:
            yield behind.path, behind.bias.expand_as(self.input)

    def directed(self, direction: Float[Tensor, " d"]) -> Float[Tensor, "head n"]:
        """`messages` along one direction at `middle`, without computing the messages."""
        for norm in (self.middle_norm, self.attention_norm):
            direction = direction if norm is None else norm.pulled(direction)
        values = self.values.repeat_interleave(self.heads.groups, 0)
        return (values @ (self.w_o @ direction)[:, :, None])[..., 0]


@dataclass(frozen=True)
class Anatomy:
    """The layers of a stack in one forward pass, from first to last, and the calls outside of them."""

    layers: Sequence[Layer]
    watched: Captured

    @property
    def output(self) -> Any:
        """The model's output; the same as in an ordinary pass, up to rounding."""
        return self.watched.output


def anatomy(model: nn.Module, inputs: Mapping[str, Any]) -> Anatomy:
    """Describe a model by a forward pass without a graph, and another of a few tokens.

    Args:
        model: A model whose attention goes through transformers' interface; it is restored.
        inputs: Its keyword arguments, for one example.

    Raises:
        ApportionError: A part was not found, or the parts do not reproduce the model's computation to 1e-4.
    """
    layers, seen = captured(model, inputs, partial(_layer, type(model).__name__))
    check_tokens_mix_in_attention(model, inputs)
    return Anatomy(layers, seen)


def matrix(module: nn.Module) -> Float[Tensor, "d_out d_in"]:
    """The weight of a linear map, laid out as in `torch.nn.Linear`."""
    weight = module.get_parameter("weight").detach()
    return weight.T if isinstance(module, Conv1D) else weight


def bias_of(module: nn.Module) -> Float[Tensor, " d_out"] | None:
    """The bias of a linear map, or None."""
    bias = getattr(module, "bias", None)
    return bias.detach() if isinstance(bias, Tensor) else None


def _layer(name: str, frame: Frame, probabilities: Tensor) -> Layer:
    """Find a layer's parts in the calls inside it."""
    assert frame.heads is not None
    assert frame.mixed is not None
    assert frame.input is not None
    assert frame.output is not None
    refuse = partial(_refusal, name, frame.path)
    after = frame.calls[frame.before :]
    mixed = frame.mixed[0].transpose(0, 1).reshape(len(frame.input[0]), -1)
    projection = next((c for c in after if c.is_linear and same(c.input, mixed)), None)
    if projection is None:
        raise refuse("no linear map takes the mixed heads as they are")
    input_norm = _norm_of(frame.calls[: frame.before], frame.input)
    attention_norm = _norm_of(after, projection.output)
    added = projection.output if attention_norm is None else attention_norm[0].output
    stream = _stream(frame, after, added, refuse)
    layer = Layer(
        path=frame.path,
        input=frame.input[0],
        heads=frame.heads,
        value=_value(frame, refuse).module,
        projection=projection.module,
        projection_path=projection.path,
        input_norm=input_norm and input_norm[1],
        attention_norm=attention_norm and attention_norm[1],
        output=frame.output[0],
        **stream,
    )
    _check(layer, mixed, refuse)
    return layer


def _refusal(name: str, path: str, what: str) -> ApportionError:
    return ApportionError(f"{path} of {name}: {what}, so this method cannot take the model apart; {OTHERS}.")


def _value(frame: Frame, refuse: Any) -> Call:
    """The linear map of this layer that made the values."""
    assert frame.heads is not None
    values = frame.heads.value[0].transpose(0, 1).flatten(1)
    for call in frame.calls[: frame.before]:
        if not call.is_linear or call.output.numel() % len(values):
            continue
        rows = call.output.reshape(len(values), -1)
        if torch.equal(rows[:, _nearest_columns(values, rows)], values):
            return call
    raise refuse("no linear map of its own computes its values")


def _nearest_columns(columns: Tensor, among: Tensor) -> Tensor:
    """For each column the index of the one that is most likely equal, by a weighted sum of its entries."""
    weights = torch.linspace(1, 2, len(columns), dtype=torch.float64, device=columns.device).sqrt()[:, None]
    wanted, (ordered, places) = (columns * weights).sum(0), (among * weights).sum(0).sort()
    above = torch.searchsorted(ordered, wanted).clamp_max(len(ordered) - 1)
    below = (above - 1).clamp_min(0)
    return places[torch.where(wanted - ordered[below] < ordered[above] - wanted, below, above)]


def _norm_of(calls: Sequence[Call], tensor: Tensor) -> tuple[Call, FrozenNorm] | None:
    """The call that normalises this tensor."""
    for call in calls:
        norm = frozen_norm(call) if same(call.input, tensor) else None
        if norm is not None:
            return call, norm
    return None


def _factor(tensor: Tensor, of: Tensor, tolerance: float) -> float | None:
    """k in tensor = k · of; None if there is none or it is 0."""
    if tensor.numel() != of.numel():
        return None
    one, other = tensor.reshape(-1).double(), of.reshape(-1).double()
    square = other @ other
    k = float(one @ other / square) if square > 0 else 0.0
    if not k or not same(k * other, one, tolerance):
        return None
    return 1.0 if abs(k - 1) < tolerance else k


def _stream(frame: Frame, after: Sequence[Call], added: Tensor, refuse: Any) -> dict[str, Any]:
    """The stream after the attention: its middle, its sum with the MLP, and the norms in between."""
    assert frame.input is not None
    assert frame.output is not None
    tolerance = tolerance_of(added)
    x, output = frame.input, frame.output
    for scale, norm, middle in _middles(x, after, added, tolerance):
        for output_norm, whole in _ends(after, output):
            mlp = whole.reshape(x.shape) - middle
            if any(_factor(mlp, call.output, tolerance) for call in after):
                return {
                    "scale": scale,
                    "middle": middle[0],
                    "total": output[0] if output_norm is None else whole.reshape(x.shape)[0],
                    "middle_norm": norm,
                    "output_norm": output_norm,
                }
    raise refuse("its input, its attention's and its MLP's output do not add up to its output")


def _middles(
    x: Tensor, after: Sequence[Call], added: Tensor, tolerance: float
) -> Iterator[tuple[float, FrozenNorm | None, Tensor]]:
    """Candidates for the middle: a tensor x + κ · added that is read, its norm, or in a parallel block the sum."""
    for call in after:
        if call.input.numel() != x.numel():
            continue
        scale = _factor(call.input.reshape(x.shape) - x, added.reshape(x.shape), tolerance)
        if scale is not None:
            yield scale, None, call.input.reshape(x.shape)
            if (norm := frozen_norm(call)) is not None:
                yield scale, norm, call.output.reshape(x.shape)
            return
    yield 1.0, None, x + added.reshape(x.shape)


def _ends(after: Sequence[Call], output: Tensor) -> Iterator[tuple[FrozenNorm | None, Tensor]]:
    """Candidates for the layer's last sum: its output, or the input of a norm that returns its output."""
    yield None, output
    for call in reversed(after):
        if same(call.output, output) and (norm := frozen_norm(call)) is not None:
            yield norm, call.input


def _check(layer: Layer, mixed: Tensor, refuse: Any) -> None:
    """Check that the parts rebuild the middle and the output."""
    tolerance = tolerance_of(layer.input)
    attended = mixed @ layer.w_o.flatten(0, 1)
    for norm in (layer.attention_norm, layer.middle_norm):
        attended = attended if norm is None else norm.mapped(attended)
    scale = layer.row_scale
    attended = attended if scale is None else attended * scale[:, None]
    rebuilt = attended + layer.own() + sum(constant for _, constant in layer.constants())
    if not same(rebuilt, layer.middle, tolerance):
        raise refuse("the contribution of its attention does not rebuild the residual stream")
    norm = layer.output_norm
    if norm is not None and not same(norm(layer.total, bias=True), layer.output, tolerance):
        raise refuse("the contribution of its MLP does not rebuild its output")
