"""Everything that can be registered, given back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from apportion.core import _shown, load_entry_points
from apportion.evaluation import MEASURES
from apportion.games.maskers._masker import MASKERS
from apportion.methods import METHODS
from apportion.models.kinds import KINDS
from apportion.relevance import _treatment

REGISTRIES: tuple[dict[Any, Any], ...] = (
    METHODS,
    MEASURES,
    MASKERS,
    KINDS,
    _shown._VIEWS,
    _treatment._NAMED,
    _treatment._REGISTERED,
)


@contextmanager
def given_back() -> Iterator[None]:
    """Let every registry have afterwards what it had before."""
    load_entry_points(_shown.GROUP)  # once in a process, so what these bring must be among what is given back
    before = [dict(registry) for registry in REGISTRIES]
    try:
        yield
    finally:
        for registry, entries in zip(REGISTRIES, before, strict=True):
            registry.clear()
            registry.update(entries)
