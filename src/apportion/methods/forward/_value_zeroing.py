"""Value zeroing: the change in direction of each token's output when one token's value vector is zero."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Cache

from apportion.core import ApportionError, progress
from apportion.methods._method import OneByOne, Shares
from apportion.methods._registry import forward_method
from apportion.methods.forward._captured_attention import TOLERANCE, CapturedAttention, layer_of
from apportion.methods.forward._stacks import Stack, stacks_of, sum_of
from apportion.models.anatomy import Heads, attention_through, in_evaluation
from apportion.task import TOKENS_AT_ONCE, AttributionTask


@forward_method("value-zeroing", cost="n + 3 forward, 2 backward", source="Mohebbi et al. 2023, arXiv 2301.12971")
@dataclass(frozen=True, kw_only=True)
class ValueZeroing(OneByOne):
    r"""Value zeroing: each layer runs again with the value vector of one token set to 0 in all heads, for every token.

    $C_{ts} = 1 - \cos(\tilde x_t^{\neg s}, \tilde x_t)$ at the layer's output (eq. 2), rows scaled to sum 1; the
    scores are the predicting position's row of $C^L \cdots C^1$, or the mean of rows if a target reads several.
    Images as in `Rollout`.

    Source:
        Mohebbi et al. 2023, arXiv 2301.12971.
    """

    def alone(self, task: AttributionTask) -> Shares:
        """Zero each token's values in every layer."""
        seen = CapturedAttention(task)
        return Shares(scores=[sum_of([stack.laid(_rows(task, stack, seen)) for stack in stacks_of(seen, self.name)])])


def _rows(task: AttributionTask, stack: Stack, seen: CapturedAttention) -> Float[Tensor, "targets places"]:
    attentions, rows = stack.calls(seen), stack.reading
    layers = _layers(task, [call.path for call in attentions])
    work = list(zip(layers, attentions, strict=True))[::-1]
    for layer, attention in progress(work, "value-zeroing", show=task.progress):
        # Changes of tokens that do not attend to the zeroed one are rounding.
        looked_at = (attention.probabilities[0] > 0).any(0)
        rows = rows @ _turned(task, layer, looked_at).cpu()
    task.passes.forward += len(stack.features)
    return rows


@dataclass(frozen=True)
class _Layer:
    """One call of a layer: its arguments and the hidden states that it returned."""

    module: nn.Module
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    output: Tensor

    def again(self, copies: int) -> Tensor:
        """Its hidden states when it runs again, in a batch of so many copies."""
        arguments, keywords = _copied(self.arguments, copies), _copied(self.keywords, copies)
        try:
            return _hidden_states(self.module(*arguments, **keywords))
        except (RuntimeError, IndexError, TypeError) as error:
            raise ApportionError(
                f"a {type(self.module).__name__} cannot run again alone for several tokens at once, as value-zeroing "
                "needs; attnlrp, input-x-gradient or leave-one-out serve this model."
            ) from error


def _layers(task: AttributionTask, paths: Sequence[str]) -> list[_Layer]:
    """The call of the layer around each attention, in the order of the calls."""
    model = task.head.model
    calls: list[_Layer] = []
    handles = []

    def note(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        calls.append(_Layer(module, arguments, keywords, _hidden_states(output)))

    try:
        for path in dict.fromkeys(layer_of(path) for path in paths):
            handles.append(model.get_submodule(path).register_forward_hook(note, with_kwargs=True))
        # With our attention, so that layers get masks in its format.
        with _values_zeroed(model, ()):
            model(**task.inputs)
        task.passes.forward += 1
    finally:
        for handle in handles:
            handle.remove()
    if len(calls) != len(paths):
        raise ApportionError(
            f"{type(model).__name__} calls {len(paths)} attentions in {len(calls)} layers, and value-zeroing needs one "
            "in each; attnlrp, input-x-gradient or leave-one-out serve it."
        )
    return calls


def _turned(task: AttributionTask, layer: _Layer, looked_at: Tensor) -> Float[Tensor, "token token"]:
    """The change in direction of each token's output when each token's value is zero, rows scaled to sum 1."""
    length, name = len(looked_at), type(task.head.model).__name__
    if layer.output.shape[:-1] != (1, length):
        raise ApportionError(
            f"a layer of {name} passes on {tuple(layer.output.shape)} for {length} tokens, so value-zeroing cannot "
            "compare its outputs token by token; attnlrp, input-x-gradient or leave-one-out serve this model."
        )
    with _values_zeroed(task.head.model, ()):
        before = layer.again(1)
    off = (before - layer.output).abs().max()
    if bool(off > max(TOLERANCE, 8 * torch.finfo(before.dtype).eps) * layer.output.abs().max()):
        raise ApportionError(
            f"a layer of {name} computes something else when it runs again, so value-zeroing cannot be trusted there; "
            "attnlrp, input-x-gradient or leave-one-out serve this model."
        )
    changes = torch.zeros(length, length, dtype=torch.float64, device=before.device)
    directions = _directions(before)
    at_once = max(1, TOKENS_AT_ONCE // length)
    for first in range(0, length, at_once):
        tokens = range(first, min(first + at_once, length))
        with _values_zeroed(task.head.model, tokens):
            after = _directions(layer.again(len(tokens)))
        # Half the squared distance of unit vectors is 1 − cos, without cancellation when they are close.
        changes[:, list(tokens)] = ((after - directions) ** 2).sum(-1).T / 2
    changes = changes.where(looked_at, 0)
    total = changes.sum(-1, keepdim=True)
    # A token that no other changes keeps its own share.
    return torch.where(total > 0, changes / total.where(total > 0, 1), torch.eye(length).to(changes))


@contextmanager
def _values_zeroed(model: nn.Module, tokens: Sequence[int]) -> Iterator[None]:
    """Attention in which each row of the batch has the value vector of its own token set to 0, in all heads."""

    def attend(heads: Heads) -> tuple[Tensor, Tensor | None]:
        value = heads.value.clone()
        for row, token in enumerate(tokens):
            value[row, :, token] = 0
        probabilities = heads.probabilities()
        return heads.mixed(probabilities, value), probabilities

    with attention_through(model, attend), in_evaluation(model), torch.no_grad():
        yield


def _directions(hidden: Tensor) -> Tensor:
    wide = hidden.double()
    return wide / wide.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)


def _hidden_states(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def _copied(value: Any, copies: int) -> Any:
    """Arguments of a batch of one as those of a batch of copies, without caches."""
    if isinstance(value, Cache):
        return None
    if isinstance(value, Tensor):
        return value.expand(copies, *value.shape[1:]) if value.ndim > 1 and len(value) == 1 else value
    if isinstance(value, dict):
        return {name: _copied(item, copies) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_copied(item, copies) for item in value)
    return value
