"""Replacing the attention: every attention of a model is computed by one function during a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig
from transformers.masking_utils import eager_mask

from apportion.core import ApportionError

NAME = "apportion"

#: The number that `raised_scores` adds to all scores.
_RAISED: ContextVar[float] = ContextVar("raised", default=0.0)


@dataclass(frozen=True)
class Heads:
    """The arguments of one call of an attention, before the heads of keys and values are repeated.

    Args:
        module: The attention module.
        query: (batch, head, query, d_head), after any rotation.
        key: (batch, kv head, key, d_head); each is shared by the same number of neighbouring query heads.
        value: (batch, kv head, key, d_head).
        mask: Added to the scores, with −∞ (or nearly) where a query must not attend; None without one.
        scaling: The factor of the scores.
        options: Further arguments, such as `softcap`, `position_bias` or `s_aux` (sinks).
    """

    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scaling: float
    options: dict[str, Any]

    @property
    def groups(self) -> int:
        """How many query heads share a head of keys and values."""
        return self.query.shape[1] // self.key.shape[1]

    def scores(self) -> Tensor:
        """The scores before the softmax and the mask: (batch, head, query, key)."""
        key = self.key.repeat_interleave(self.groups, 1) if self.groups > 1 else self.key
        scores = self.query @ key.transpose(-1, -2) * self.scaling
        softcap, bias = self.options.get("softcap"), self.options.get("position_bias")
        scores = scores if softcap is None else torch.tanh(scores / softcap) * softcap
        return scores if bias is None else scores + bias

    def probabilities(self, scores: Tensor | None = None) -> Tensor:
        """The attention probabilities, (batch, head, query, key), of these scores or of the model's own."""
        scores = self.scores() if scores is None else scores
        if self.mask is not None:
            scores = scores + self.mask[..., : scores.shape[-1]]
        wide = torch.promote_types(scores.dtype, torch.float32)
        sinks = self.options.get("s_aux")
        if sinks is not None:
            column = sinks.reshape(1, -1, 1, 1).expand(scores.shape[0], -1, scores.shape[2], -1)
            return torch.cat([scores, column.to(scores)], -1).softmax(-1, dtype=wide)[..., :-1].to(scores.dtype)
        return scores.softmax(-1, dtype=wide).to(scores.dtype)

    def mixed(self, probabilities: Tensor, value: Tensor | None = None) -> Tensor:
        """The values weighted by probabilities: (batch, head, query, d_head)."""
        value = self.value if value is None else value
        value = value.repeat_interleave(self.groups, 1) if self.groups > 1 else value
        return probabilities @ value


@contextmanager
def attention_through(model: nn.Module, function: Callable[[Heads], tuple[Tensor, Tensor | None]]) -> Iterator[None]:
    """Every attention of a transformers model computed by `function`; the model is restored at the end.

    Args:
        model: A model whose attention goes through transformers' interface.
        function: From one call to the mixed values, (batch, head, query, d_head), and the probabilities or None.

    Raises:
        ApportionError: The model's attention does not go through that interface.
    """
    called = False

    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        nonlocal called
        called = True
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        given = _raised({name: option for name, option in options.items() if option is not None})
        mixed, probabilities = function(Heads(module, query, key, value, attention_mask, scaling, given))
        return mixed.transpose(1, 2).contiguous(), probabilities

    found = (getattr(module, "config", None) for module in model.modules())
    configs = {id(config): config for config in found if isinstance(config, PreTrainedConfig)}
    before = [(config, config._attn_implementation_internal) for config in configs.values()]
    # Contexts may be nested.
    around = [(of, of._global_mapping.get(NAME)) for of in (AttentionInterface, AttentionMaskInterface)]
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, eager_mask)
    try:
        for config in configs.values():
            config._attn_implementation_internal = NAME
        yield
        if not called:
            raise ApportionError(
                f"{type(model).__name__} has no attention that goes through transformers' attention interface, so this "
                "method cannot see it; attnlrp, input-x-gradient or leave-one-out serve any model."
            )
    finally:
        for config, implementation in before:
            config._attn_implementation_internal = implementation
        for interface, registered in around:
            interface._global_mapping.pop(NAME, None)
            if registered is not None:
                interface._global_mapping[NAME] = registered


@contextmanager
def raised_scores(shift: float) -> Iterator[None]:
    """Add a constant to all scores in `attention_through`, which does not change the softmax."""
    token = _RAISED.set(shift)
    try:
        yield
    finally:
        _RAISED.reset(token)


def _raised(options: dict[str, Any]) -> dict[str, Any]:
    shift = _RAISED.get()
    if not shift:
        return options
    # A sink is a score as well.
    sinks = {"s_aux": options["s_aux"] + shift} if "s_aux" in options else {}
    return {**options, **sinks, "position_bias": options.get("position_bias", 0.0) + shift}
