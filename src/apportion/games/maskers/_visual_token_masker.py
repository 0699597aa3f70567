"""Dimmed visual tokens: some tokens of an image replaced by zeros or the mean before the language part reads them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from apportion.core import ApportionError
from apportion.relevance import DEEP, visual_tokens_through
from apportion.task import Change


class DimmedTokens(Change):
    """Replaces visual tokens between the vision tower and the language part, in every layer that reads them.

    Args:
        there: For each visual token whether it stays.
        mean: Whether the others become the mean of all tokens, rather than zeros.
    """

    def __init__(self, there: Tensor, *, mean: bool) -> None:
        self.there = there
        self.mean = mean

    @property
    def kind(self) -> Hashable:
        """Each runs alone, since the model does not separate the images of several examples."""
        return self

    @contextmanager
    def applied_to(self, model: nn.Module, changes: Sequence[Change]) -> Iterator[None]:
        """The model with these tokens replaced, as long as the context lasts."""

        def changed(value: Any, name: str) -> Any:
            return [self._replaced(one) for one in value] if name == DEEP else self._replaced(value)

        with visual_tokens_through(model, changed):
            yield

    def _replaced(self, value: Any) -> Any:
        """The tokens of all images, as one tensor or one for each image."""
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
