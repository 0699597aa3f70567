"""Data: the items behind what a user names, such as a benchmark, a file, or texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from apportion.evaluation._item import Item

if TYPE_CHECKING:
    from apportion._explainer import Explainer


def as_data(data: Any, explainer: Explainer, *, seed: int = 0) -> Iterable[Item]:
    """The items behind texts, items, a benchmark's name or a file's path.

    Args:
        data: What the user gives.
        explainer: Of the model, since a benchmark takes only what fits the model's tokenizer.
        seed: Of what is drawn.
    """
    return _items(data)


def _items(data: Iterable[Any]) -> Iterator[Item]:
    for k, one in enumerate(data):
        yield one if isinstance(one, Item) else Item(id=str(k), prompt=one)
