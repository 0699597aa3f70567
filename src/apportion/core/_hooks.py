"""Hooks on a model or a graph that are removed again, also after an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.utils.hooks import RemovableHandle


@contextmanager
def temporary_hooks() -> Iterator[list[RemovableHandle]]:
    """A list for the handles of hooks; all of them are removed at the end."""
    handles: list[RemovableHandle] = []
    try:
        yield handles
    finally:
        for handle in handles:
            handle.remove()
