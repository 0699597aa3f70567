"""Capturing one forward pass layer by layer: the module calls around each attention, with inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from apportion.core import ApportionError, temporary_hooks
from apportion.models.anatomy._attention import Heads, attention_through
from apportion.models.anatomy._running import in_evaluation

OTHERS = "attnlrp, input-x-gradient or leave-one-out serve any model"
T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """One call of a module, with its first input and output tensors."""

    path: str
    module: nn.Module
    input: Tensor
    output: Tensor

    @property
    def is_linear(self) -> bool:
        """Whether the module is a linear map with a weight matrix."""
        return isinstance(self.module, nn.Linear | Conv1D)

    @property
    def is_leaf(self) -> bool:
        """Whether the module contains no modules."""
        return next(self.module.children(), None) is None


@dataclass
class Frame:
    """The calls inside one numbered module (a layer, if it contains an attention), or outside of all.

    Args:
        path: The module's path; empty outside.
        input: The incoming stream, (1, n, d); None outside.
        output: The outgoing stream.
        calls: The calls inside, in order, of the stream's shape; before the attention, also those of linear maps.
        heads: The attention inside, once it was called.
        mixed: The result of that attention, (1, head, n, d_head).
        before: The number of calls before it.
    """

    path: str = ""
    input: Tensor | None = None
    output: Tensor | None = None
    calls: list[Call] = field(default_factory=list)
    heads: Heads | None = None
    mixed: Tensor | None = None
    before: int = 0


@dataclass(frozen=True)
class Captured:
    """The results of a captured pass besides its layers.

    Args:
        calls: Calls of the innermost modules outside the layers, in order.
        output: The model's output.
        last: The stream after the last layer, (1, n, d).
    """

    calls: tuple[Call, ...]
    output: Any
    last: Tensor


def captured(
    model: nn.Module, inputs: Mapping[str, Any], on_layer: Callable[[Frame, Tensor], T]
) -> tuple[list[T], Captured]:
    """Run a model once without a graph and describe each layer as it ends, so that only descriptions are kept.

    Args:
        model: A transformers model whose self-attentions form one stack; it is restored, also after an error.
        inputs: Its keyword arguments, for one example.
        on_layer: Maps the calls in a layer and its attention probabilities (head, n, n) to its description.

    Raises:
        ApportionError: The attentions cannot be observed, or do not form one stack of self-attentions.
    """
    name = type(model).__name__
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise ApportionError(
            f"{name} has an encoder and a decoder, and this method follows one stack of self-attentions; {OTHERS}."
        )
    watch = _Watch(on_layer, name)
    with _hooked(model, watch), in_evaluation(model), torch.no_grad(), attention_through(model, watch.attend):
        output = model(**inputs)
    assert watch.last is not None  # attentions outside of numbered layers were rejected when called
    return watch.layers, Captured(tuple(watch.frames[0].calls), output, watch.last)


def same(one: Tensor, other: Tensor, tolerance: float = 0.0) -> bool:
    """Whether two tensors have the same entries in order, up to a relative distance, whatever their shapes."""
    if one.numel() != other.numel():
        return False
    if not tolerance:
        return torch.equal(one.reshape(-1), other.reshape(-1))
    return bool((one.reshape(-1) - other.reshape(-1)).norm() <= tolerance * other.norm())


def tolerance_of(tensor: Tensor) -> float:
    """The relative error allowed for a rebuilt tensor: 1e-4, or the rounding error of short formats."""
    return max(1e-4, 4 * torch.finfo(tensor.dtype).eps)


@contextmanager
def _hooked(model: nn.Module, watch: _Watch[Any]) -> Iterator[None]:
    with temporary_hooks() as handles:
        for path, module in model.named_modules():
            if path.rpartition(".")[2].isdigit():
                handles.append(module.register_forward_pre_hook(watch.enter(path), with_kwargs=True, prepend=True))
            if path:
                handles.append(module.register_forward_hook(watch.leave(path), with_kwargs=True))
        yield


class _Watch(Generic[T]):
    """The state of the hooks."""

    def __init__(self, on_layer: Callable[[Frame, Tensor], T], name: str) -> None:
        self.on_layer, self.name = on_layer, name
        self.layers: list[T] = []
        self.frames = [Frame()]
        self.last: Tensor | None = None
        self._probabilities: Tensor | None = None

    def attend(self, heads: Heads) -> tuple[Tensor, Tensor | None]:
        """Compute an attention as the model does, and keep it with its layer."""
        frame = self.frames[-1]
        probabilities = heads.probabilities()
        mixed = heads.mixed(probabilities)
        if frame.input is None or frame.heads is not None or probabilities.shape[-2] != probabilities.shape[-1]:
            raise ApportionError(
                f"the attentions of {self.name} are not one self-attention in each layer, which this method needs; "
                f"{OTHERS}."
            )
        frame.heads, frame.mixed, frame.before = heads, mixed, len(frame.calls)
        self._probabilities = probabilities[0]
        return mixed, probabilities

    def enter(self, path: str) -> Callable[..., None]:
        """A hook that opens a frame."""

        def hook(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            self.frames.append(Frame(path, _first_tensor([*arguments, *keywords.values()], copy=True)))

        return hook

    def leave(self, path: str) -> Callable[..., None]:
        """A hook that notes a call, and closes the module's frame if it has one."""

        def hook(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
            out = _first_tensor(output if isinstance(output, list | tuple) else [output])
            if self.frames[-1].path == path and len(self.frames) > 1:
                self._close(self.frames.pop(), out)
            came = _first_tensor([*arguments, *keywords.values()])
            if came is not None and out is not None:
                self._note(Call(path, module, came, out))

        return hook

    def _note(self, call: Call) -> None:
        frame = self.frames[-1]
        if frame.input is None:
            if call.is_leaf:
                frame.calls.append(call)
        elif call.output.numel() == frame.input.numel():
            # Copies, since some models add in place.
            frame.calls.append(Call(call.path, call.module, call.input.clone(), call.output.clone()))
        elif frame.heads is None and call.is_linear:
            frame.calls.append(call)

    def _close(self, frame: Frame, output: Tensor | None) -> None:
        if frame.heads is None:
            for call in frame.calls:
                self._note(call)
            return
        assert frame.input is not None
        if output is None or output.shape != frame.input.shape or frame.input.ndim != 3 or len(frame.input) != 1:
            raise ApportionError(f"{frame.path} of {self.name} returns no stream of (1, tokens, size); {OTHERS}.")
        if self.last is not None:
            if not same(frame.input, self.last):
                raise ApportionError(
                    f"{frame.path} of {self.name} does not start where the attention layer before it ended, so the "
                    f"attentions form no single stack; {OTHERS}."
                )
            frame.input = self.last  # one tensor for both layers
        frame.output = self.last = output.clone()
        probabilities, self._probabilities = self._probabilities, None
        assert probabilities is not None
        self.layers.append(self.on_layer(frame, probabilities))


def _first_tensor(values: Iterable[Any], *, copy: bool = False) -> Tensor | None:
    for value in values:
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.clone() if copy else value
    return None
