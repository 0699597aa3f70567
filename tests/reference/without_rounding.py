"""Lend a Llama without the float32 roundings that transformers builds into it, to compare to float64 precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm


def norm_without_rounding(norm: LlamaRMSNorm, x: Tensor) -> Tensor:
    """`LlamaRMSNorm.forward` without the detour through float32."""
    return norm.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon))


@contextmanager
def without_rounding(model: LlamaForCausalLM) -> Iterator[LlamaForCausalLM]:
    """Lend `model` with norms and softmax in its own precision; give it back as it was, also after an error.

    Transformers takes every RMSNorm and the eager softmax in float32, which in a float64 model leaves errors of
    1e-6 on a logit. The rotary angles stay in float32: they are constants, the same for everyone who reads them.
    """
    attention = model.config._attn_implementation
    norms = [module for module in model.modules() if isinstance(module, LlamaRMSNorm)]
    try:
        model.set_attn_implementation("sdpa")  # the eager softmax rounds; this one does not
        for norm in norms:
            norm.forward = partial(norm_without_rounding, norm)
        yield model
    finally:
        for norm in norms:
            norm.__dict__.pop("forward", None)
        model.set_attn_implementation(attention)
