"""Entry points: what installed packages bring along, such as methods and views."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from apportion.core._errors import ApportionError


@cache
def load_entry_points(group: str) -> None:
    """Import, once, what installed packages offer under a group, such as `apportion.methods`.

    Raises:
        ApportionError: A package's module cannot be imported.
    """
    for entry in entry_points(group=group):
        try:
            entry.load()
        except Exception as error:
            raise ApportionError(
                f"{entry.value}, which a package offers as {group!r}, cannot be imported: {type(error).__name__}: "
                f"{error}; mend or remove that package."
            ) from error
