"""The benchmark's model: a Llama with random weights that every process of the benchmark shares.

It is imported by both environments, so it keeps to what transformers 4.52 and 5 have in common. The configuration is
spelled out here and only the tensors travel through the file, because the two versions write configurations
differently.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

Case = Callable[[Tensor], Tensor]
"""One thing to measure: token ids of shape (seq,) in, relevance of the tokens of shape (..., seq) out."""

Cases = Mapping[str, Case]


def random_llama(vocab: int, *, seed: int = 0) -> LlamaForCausalLM:
    """A frozen 12-layer Llama in float32 with SDPA: 75 million parameters in its layers, more in its vocabulary."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config).float().eval().requires_grad_(False)


def save_weights(model: LlamaForCausalLM, path: Path) -> None:
    """Write the model's tensors for `llama_with_weights`."""
    save_file(model.state_dict(), path)


def llama_with_weights(path: Path, vocab: int) -> LlamaForCausalLM:
    """The model whose tensors `save_weights` wrote."""
    model = random_llama(vocab)
    model.load_state_dict(load_file(path))
    return model


def random_ids(n: int, vocab: int) -> Tensor:
    """The same `n` token ids in every process."""
    return torch.randint(vocab, (n,), generator=torch.Generator().manual_seed(n))


def input_x_gradient(model: LlamaForCausalLM, ids: Tensor, *, logits_to_keep: int = 1) -> Tensor:
    """Gradient of the last position's largest logit by the input embeddings, times the embeddings, per token.

    On a model as it comes this is the plain gradient, the unit of the benchmark. On a model that LXT patched it is
    LXT's relevance; its documentation computes all logits, which is `logits_to_keep=0`.
    """
    embeddings = model.get_input_embeddings()(ids[None]).requires_grad_()
    logits = model(inputs_embeds=embeddings, use_cache=False, logits_to_keep=logits_to_keep).logits
    logits[0, -1].max().backward()
    return (embeddings.detach() * embeddings.grad).sum(-1)[0]
