"""Dimmed visual tokens: what a language model reads of an image, with some of its tokens saying nothing."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from apportion.core import ApportionError
from apportion.relevance import MAKES
from apportion.task import Change


class DimmedTokens(Change):
    """Visual tokens replaced on their way from the vision tower to the language part, in every layer that reads them.

    Args:
        there: For each visual token whether it stays.
        mean: Whether the others become the mean of all, rather than zeros.
    """

    def __init__(self, there: Tensor, *, mean: bool) -> None:
        self.there = there
        self.mean = mean

    @property
    def kind(self) -> Hashable:
        """Each runs by itself, since the images of several examples are not told apart."""
        return self

    @contextmanager
    def applied_to(self, model: nn.Module, changes: Sequence[Change]) -> Iterator[None]:
        """The model with these tokens replaced; its method is given back as it was."""
        makers = [module for module in model.modules() if callable(getattr(module, MAKES, None))]
        if not makers:
            raise ApportionError(
                f"{type(model).__name__} makes no visual tokens; use regions='patches', whose pixels can be absent."
            )
        maker = makers[-1]  # the innermost; the others call it
        make = getattr(maker, MAKES)

        def changed(*arguments: Any, **keywords: Any) -> Any:
            output = make(*arguments, **keywords)
            if getattr(output, "pooler_output", None) is not None:
                output["pooler_output"] = self._replaced(output.pooler_output)
            if getattr(output, "deepstack_features", None) is not None:
                output["deepstack_features"] = [self._replaced(one) for one in output.deepstack_features]
            return output

        setattr(maker, MAKES, changed)
        try:
            yield
        finally:
            delattr(maker, MAKES)

    def _replaced(self, value: Any) -> Any:
        """All images' tokens, as one tensor or one of each image."""
        several = isinstance(value, list | tuple)
        pieces = list(value) if several else [value]
        rows = torch.cat([piece.reshape(-1, piece.shape[-1]) for piece in pieces])
        if len(rows) != len(self.there):
            raise ApportionError(
                f"the model makes {len(rows)} visual tokens and the prompt has places for {len(self.there)}; "
                "use regions='patches'."
            )
        absent = rows.mean(0) if self.mean else torch.zeros_like(rows[0])
        rows = torch.where(self.there.to(rows.device)[:, None], rows, absent)
        split = rows.split([piece.numel() // piece.shape[-1] for piece in pieces])
        shaped = [rows.reshape(piece.shape) for rows, piece in zip(split, pieces, strict=True)]
        return type(value)(shaped) if several else shaped[0]
