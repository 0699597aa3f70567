"""Whether attention is the only operation of a model in which one token affects another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from apportion.core import ApportionError, temporary_hooks
from apportion.models.anatomy._attention import Heads, attention_through
from apportion.models.anatomy._capturing import OTHERS
from apportion.models.anatomy._running import in_evaluation
from apportion.relevance import token_embedding

#: The number of tokens for the test; a few suffice, since it concerns the model's structure.
FEW = 5


def check_tokens_mix_in_attention(model: nn.Module, inputs: Mapping[str, Any]) -> None:
    """Reject a model that mixes tokens elsewhere too, as in a recurrence or a convolution between attentions.

    Without gradients through attention, the values and outputs at the last of a few tokens must depend only on the
    embedding of that token.

    Raises:
        ApportionError: They depend on others, or the model has no embeddings of tokens.
    """
    values: list[Tensor] = []

    def attend(heads: Heads) -> tuple[Tensor, Tensor | None]:
        values.append(heads.value[..., -1, :])
        probabilities = heads.probabilities()
        return heads.mixed(probabilities).detach(), probabilities

    leaves: list[Tensor] = []
    few = _beginning(inputs)
    if isinstance(few.get("inputs_embeds"), Tensor):
        leaves.append(few["inputs_embeds"].detach().requires_grad_(True))
        few["inputs_embeds"] = leaves[0].clone()
    embedding = token_embedding(model)

    def cut(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_(True))
        return leaves[-1].clone()

    with temporary_hooks() as handles:
        if not leaves and embedding is not None:
            handles.append(embedding.register_forward_hook(cut))
        with torch.inference_mode(False), torch.enable_grad(), in_evaluation(model), attention_through(model, attend):
            output = model(**few)
    name = type(model).__name__
    if not leaves:
        raise ApportionError(f"{name} declares no embedding of tokens, so this method cannot follow them; {OTHERS}.")
    logits = getattr(output, "logits", None)
    count = leaves[0].shape[1] if leaves[0].ndim == 3 else len(leaves[0])
    read = [*values, logits[:, -1]] if isinstance(logits, Tensor) and logits.shape[1:2] == (count,) else values
    if _places(read, leaves) - {count - 1}:
        raise ApportionError(
            f"{name} mixes tokens in other ways than attention, which this method would not show; {OTHERS}."
        )


def _beginning(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of the first few tokens."""
    lengths = [value.shape[1] for value in inputs.values() if isinstance(value, Tensor) and value.ndim >= 2]

    def cut(value: Any) -> Any:
        is_long = isinstance(value, Tensor) and value.ndim >= 2 and value.shape[1] == lengths[0]
        return value[:, :FEW] if is_long else value

    return {name: cut(value) for name, value in inputs.items() if name != "logits_to_keep"}


def _places(read: list[Tensor], leaves: list[Tensor]) -> set[int]:
    """The tokens that any of the values depends on."""
    live = [(tensor * tensor).sum() for tensor in read if tensor.requires_grad]
    if not live:
        return set()
    found: set[int] = set()
    for gradient in torch.autograd.grad(torch.stack(live).sum(), leaves, allow_unused=True):
        if gradient is not None:
            places = (gradient.reshape(-1, gradient.shape[-1]) != 0).any(-1)
            found |= set(places.nonzero().flatten().tolist())
    return found
