"""Entry points: what installed packages bring along, such as methods and views."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points


@cache
def load_entry_points(group: str) -> None:
    """Import, once, what installed packages offer under a group, such as `apportion.methods`."""
    for entry in entry_points(group=group):
        entry.load()
