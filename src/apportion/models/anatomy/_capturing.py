"""One forward pass watched layer by layer: which modules ran around each attention, on what, and what they gave."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.pytorch_utils import Conv1D

from apportion.core import ApportionError
from apportion.models.anatomy._attention import Heads, attention_through
from apportion.models.anatomy._running import in_evaluation

OTHERS = "attnlrp, input-x-gradient or leave-one-out serve any model"
T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """One call of a module.

    Args:
        path: The module's path.
        module: The module.
        input: The first tensor that came in.
        output: The first tensor that came out.
    """

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
        """Whether the module has no modules inside."""
        return next(self.module.children(), None) is None


@dataclass
class Frame:
    """What ran inside one numbered module (a layer, when it holds an attention), or outside all of them.

    Args:
        path: The module's path; empty outside.
        input: The stream that came in, (1, n, d); None outside.
        output: The stream that went out.
        calls: The calls inside, in order, of the stream's shape; before the attention, also those of linear maps.
        heads: The attention inside, once it was called.
        mixed: What that attention gave, (1, head, n, d_head).
        before: How many of the calls were made before it.
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
    """What a watched pass left besides its layers.

    Args:
        calls: Calls of the innermost modules outside the layers, in order.
        output: What the model returned.
        last: The stream that left the last layer, (1, n, d).
    """

    calls: tuple[Call, ...]
    output: Any
    last: Tensor


def captured(
    model: nn.Module, inputs: Mapping[str, Any], on_layer: Callable[[Frame, Tensor], T]
) -> tuple[list[T], Captured]:
    """Run a model once without a graph and describe each layer as it ends, so that only descriptions are kept.

    Args:
        model: A transformers model whose self-attentions form one stack; given back as it was, also after an error.
        inputs: Its keyword arguments, of one example.
        on_layer: From what ran inside a layer and its attention probabilities (head, n, n) to its description.

    Raises:
        ApportionError: The attentions cannot be seen, or do not form one stack of self-attentions.
    """
    name = type(model).__name__
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise ApportionError(
            f"{name} has an encoder and a decoder, and this method follows one stack of self-attentions; {OTHERS}."
        )
    watch = _Watch(on_layer, name)
    with _hooked(model, watch), in_evaluation(model), torch.no_grad(), attention_through(model, watch.attend):
        output = model(**inputs)
    assert watch.last is not None  # an attention outside of numbered layers was refused when it was called
    return watch.layers, Captured(tuple(watch.frames[0].calls), output, watch.last)


def same(one: Tensor, other: Tensor, tolerance: float = 0.0) -> bool:
    """Whether two tensors hold the same numbers in the same order, up to a relative distance, whatever their shapes."""
    if one.numel() != other.numel():
        return False
    if not tolerance:
        return torch.equal(one.reshape(-1), other.reshape(-1))
    return bool((one.reshape(-1) - other.reshape(-1)).norm() <= tolerance * other.norm())


def tolerance_of(tensor: Tensor) -> float:
    """How far, relative to its length, a tensor that is rebuilt may be off: 1e-4, or the rounding of short formats."""
    return max(1e-4, 4 * torch.finfo(tensor.dtype).eps)


@contextmanager
def _hooked(model: nn.Module, watch: _Watch[Any]) -> Iterator[None]:
    handles: list[RemovableHandle] = []
    try:
        for path, module in model.named_modules():
            if not path:
                continue
            if path.rpartition(".")[2].isdigit():
                handles.append(module.register_forward_pre_hook(watch.enter(path), with_kwargs=True, prepend=True))
            handles.append(module.register_forward_hook(watch.leave(path), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Watch(Generic[T]):
    """What the hooks note down."""

    def __init__(self, on_layer: Callable[[Frame, Tensor], T], name: str) -> None:
        self.on_layer, self.name = on_layer, name
        self.layers: list[T] = []
        self.frames = [Frame()]
        self.last: Tensor | None = None
        self._probabilities: Tensor | None = None

    def attend(self, heads: Heads) -> tuple[Tensor, Tensor | None]:
        """Compute an attention as the model would, and keep it with its layer."""
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
            given = output if isinstance(output, list | tuple) else [output]
            out = _first_tensor(given)
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
            # Copies, since some models add to what they have in place.
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
            raise ApportionError(f"{frame.path} of {self.name} passes on no stream of (1, tokens, size); {OTHERS}.")
        if self.last is not None:
            if not same(frame.input, self.last):
                raise ApportionError(
                    f"{frame.path} of {self.name} does not start where the attention layer before it ended, so the "
                    f"attentions form no single stack; {OTHERS}."
                )
            frame.input = self.last  # one tensor serves both layers
        frame.output = self.last = output.clone()
        probabilities, self._probabilities = self._probabilities, None
        assert probabilities is not None
        self.layers.append(self.on_layer(frame, probabilities))


def _first_tensor(values: Iterable[Any], *, copy: bool = False) -> Tensor | None:
    for value in values:
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.clone() if copy else value
    return None
