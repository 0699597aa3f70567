"""Visual tokens: the vectors that a vision-language model makes of images for its language part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from apportion.core import ApportionError
from apportion.relevance._leaf import Leaf, cut_at

NAME = "visual tokens"
#: Visual tokens that some models add to the hidden states of later layers.
DEEP = "visual tokens of later layers"

_MAKES = "get_image_features"


@contextmanager
def visual_tokens_through(model: nn.Module, change: Callable[[Any, str], Any]) -> Iterator[None]:
    """The model with its visual tokens changed before the language part reads them; restored at the end.

    transformers' vision-language models make them in one method, `get_image_features`.

    Args:
        model: A vision-language model.
        change: Maps visual tokens, and `NAME` or `DEEP` (then one entry per later layer), to those to read instead.

    Raises:
        ApportionError: The model has no such method.
    """
    makers = [module for module in model.modules() if callable(getattr(module, _MAKES, None))]
    if not makers:
        raise ApportionError(f"{type(model).__name__} makes no visual tokens; use regions='patches'.")
    maker = makers[-1]  # the innermost; the others call it
    make = getattr(maker, _MAKES)

    def changed(*arguments: Any, **keywords: Any) -> Any:
        output = make(*arguments, **keywords)
        for field, name in (("pooler_output", NAME), ("deepstack_features", DEEP)):
            value = getattr(output, field, None)
            if value is not None:
                output[field] = change(value, name)
        return output

    setattr(maker, _MAKES, changed)
    try:
        yield
    finally:
        delattr(maker, _MAKES)


@contextmanager
def visual_tokens_watched(model: nn.Module, leaves: list[Leaf]) -> Iterator[None]:
    """Visual tokens as leaves, so that relevance ends there.

    Raises:
        ApportionError: The model makes no visual tokens.
    """

    def as_leaves(value: Any, name: str) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(as_leaves(one, name) for one in value)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        return cut_at(value, leaves, name, "inputs", name)

    seen = len(leaves)
    with visual_tokens_through(model, as_leaves):
        yield
    if not any(leaf.name in (NAME, DEEP) for leaf in leaves[seen:]):
        raise ApportionError(
            f"{type(model).__name__} made no visual tokens of this prompt; does it hold an image? "
            "Use regions='patches' for relevance to the pixels."
        )
