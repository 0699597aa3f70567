"""Generating: a model's own continuation of a prompt, as token ids."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin

from apportion.core import ApportionError
from apportion.models._outputs import Head
from apportion.models.anatomy import in_evaluation
from apportion.models.inputs import Prompt, tokenizer_of

#: The settings to keep of a model's own; with penalties and beams it would not write the most likely token.
_KEPT = ["bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id"]
_KEPT += ["suppress_tokens", "begin_suppress_tokens"]


def generated_ids(
    head: Head, prompt: Prompt, *, max_new_tokens: int, do_sample: bool, temperature: float, top_p: float, seed: int
) -> tuple[int, ...]:
    """The model's continuation of a prompt, including the token that ends it.

    Args:
        head: The model.
        prompt: A prepared prompt, so that an encoder-decoder has its decoder's first token.
        max_new_tokens: The maximal length.
        do_sample: Whether to sample tokens, rather than to take the most likely ones.
        temperature: Divides the logits when sampling.
        top_p: Sample from the most likely tokens that together have this probability.
        seed: Seed of the sampling.

    Raises:
        ApportionError: The model does not generate, or an option does not fit.
    """
    model: Any = head.model
    if not head.kind.writes or not callable(getattr(model, "generate", None)):
        raise ApportionError(
            f"{type(model).__name__} does not generate text; load a causal language model or an encoder-decoder."
        )
    _check_options(max_new_tokens, do_sample=do_sample, temperature=temperature, top_p=top_p)
    name = head.kind.continued_input
    if name not in prompt.inputs:
        raise ApportionError("generating needs a prompt of token ids, not embeddings.")
    length = prompt.inputs[name].shape[1]
    _check_length(model, length + max_new_tokens - 1, max_new_tokens)
    inputs = {key: value for key, value in prompt.inputs.items() if isinstance(value, Tensor) and head.accepts(key)}
    if "input_ids" in inputs:
        inputs.setdefault("attention_mask", torch.ones_like(inputs["input_ids"]))
    drawing = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0} if do_sample else {}
    settings = GenerationConfig(max_new_tokens=max_new_tokens, num_beams=1, **drawing, **_token_ids(head))
    before = model.generation_config
    device = next(iter(inputs.values())).device
    devices = [device] if device.type == "cuda" else []
    try:
        # transformers fills in missing settings from the model's own, penalties and temperatures included.
        model.generation_config = settings
        with in_evaluation(model), torch.random.fork_rng(devices), torch.no_grad():
            torch.manual_seed(seed)
            # Speech models override this method to cut long recordings; one window is generated like any text.
            generate: Any = GenerationMixin.generate if "input_features" in inputs else type(model).generate
            output = generate(model, **inputs, generation_config=settings)
    finally:
        model.generation_config = before
    return tuple(output[0, length:].tolist())


def _token_ids(head: Head) -> dict[str, Any]:
    own = getattr(head.model, "generation_config", None)
    ids = {name: getattr(own, name, None) for name in _KEPT}
    for name in ("eos_token_id", "pad_token_id"):
        if ids[name] is None:
            ids[name] = getattr(tokenizer_of(head.processor), name, None)
    if ids["pad_token_id"] is None:
        ends = ids["eos_token_id"]
        ids["pad_token_id"] = ends[0] if isinstance(ends, list) else ends
    return {name: value for name, value in ids.items() if value is not None}


def _check_options(max_new_tokens: int, *, do_sample: bool, temperature: float, top_p: float) -> None:
    if max_new_tokens < 1:
        raise ApportionError(f"max_new_tokens={max_new_tokens} is not possible; give 1 or more.")
    if not do_sample and (temperature != 1.0 or top_p != 1.0):
        raise ApportionError("temperature and top_p are for sampling tokens; give do_sample=True with them.")
    if temperature <= 0:
        raise ApportionError(f"temperature={temperature} is not possible; give a number above 0.")
    if not 0 < top_p <= 1:
        raise ApportionError(f"top_p={top_p} is not possible; give a number above 0, up to 1.")


def _check_length(model: Any, tokens: int, max_new_tokens: int) -> None:
    config = getattr(model, "config", None)
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if isinstance(limit, int) and 0 < limit < tokens:
        raise ApportionError(
            f"the prompt with {max_new_tokens} new tokens is {tokens} tokens long; the model's context is {limit}. "
            "Shorten the prompt or give a smaller max_new_tokens."
        )
