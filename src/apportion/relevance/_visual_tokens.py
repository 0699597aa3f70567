"""Visual tokens: what a vision-language model makes of images before its language part reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from apportion.core import ApportionError
from apportion.relevance._leaf import Leaf

NAME = "visual tokens"
#: Where some models add to the hidden states of later layers what they read of the images as well.
DEEP = "visual tokens of later layers"

MAKES = "get_image_features"


@contextmanager
def visual_tokens_watched(model: nn.Module, leaves: list[Leaf]) -> Iterator[None]:
    """Visual tokens as leaves, so that relevance ends there; the model's method is given back as it was.

    transformers' vision-language models make them in one method, `get_image_features`.

    Raises:
        ApportionError: The model has no such method, or it does not run.
    """
    makers = [module for module in model.modules() if callable(getattr(module, MAKES, None))]
    if not makers:
        raise ApportionError(
            f"{type(model).__name__} makes no visual tokens; use regions='patches' for relevance to the pixels."
        )
    maker = makers[-1]  # the innermost; the others call it
    make, seen = getattr(maker, MAKES), len(leaves)

    def cut(*arguments: Any, **keywords: Any) -> Any:
        output = make(*arguments, **keywords)
        for field, name in (("pooler_output", NAME), ("deepstack_features", DEEP)):
            value = getattr(output, field, None)
            if value is not None:
                output[field] = _as_leaves(value, name, leaves)
        return output

    setattr(maker, MAKES, cut)
    try:
        yield
    finally:
        delattr(maker, MAKES)
    if not any(leaf.name in (NAME, DEEP) for leaf in leaves[seen:]):
        raise ApportionError(
            f"{type(model).__name__} made no visual tokens of this prompt; does it hold an image? "
            "Use regions='patches' for relevance to the pixels."
        )


def _as_leaves(value: Any, name: str, leaves: list[Leaf]) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_as_leaves(one, name, leaves) for one in value)
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    source = value.detach().requires_grad_(True)
    leaves.append(Leaf(name, "inputs", source.detach(), get_gradient_edge(source), source, name))
    return source.clone()
