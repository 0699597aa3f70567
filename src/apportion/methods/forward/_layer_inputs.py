"""The inputs of a stack's first layer, captured or replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from apportion.core import ApportionError
from apportion.methods.forward._captured_attention import CapturedAttention, layer_of


def first_layers(seen: CapturedAttention) -> list[str]:
    """The path of each stack's first layer, one for each input of tokens; of two, the encoder's comes first."""
    firsts: dict[str, str] = {}
    for call in seen.attentions:
        layer = layer_of(call.path)
        firsts.setdefault(layer.rpartition(".")[0], layer)
    parts = seen.task.prompts[0].parts
    if len(firsts) != len(parts):
        raise ApportionError(
            f"{type(seen.task.head.model).__name__} has {len(firsts)} stacks of layers for {len(parts)} inputs of "
            "tokens, so it is not known where tokens begin; attnlrp, cp-lrp or leave-one-out serve it."
        )
    calls = [visit.path for visit in seen.trace.recording.visits]
    if any(calls.count(first) != 1 for first in firsts.values()):
        raise ApportionError(
            f"{type(seen.task.head.model).__name__} runs the same layer repeatedly, so its first layer's input cannot "
            "be told from the others'; attnlrp, cp-lrp or leave-one-out serve it."
        )
    return list(firsts.values())


@contextmanager
def reading_through(model: nn.Module, layers: Sequence[str], read: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """Pass the input hidden states of each layer, given by path, through `read`, with the layer's index among these."""

    def through(number: int) -> Callable[..., Any]:
        def enter(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
            if arguments:
                return (read(number, arguments[0]), *arguments[1:]), keywords
            return arguments, {**keywords, "hidden_states": read(number, keywords["hidden_states"])}

        return enter

    handles: list[RemovableHandle] = []
    try:
        for number, path in enumerate(layers):
            handles.append(model.get_submodule(path).register_forward_pre_hook(through(number), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()
