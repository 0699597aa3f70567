"""Entry points: methods, views and the like that installed packages provide."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from apportion.core._errors import ApportionError


@cache
def load_entry_points(group: str) -> None:
    """Import, once, the modules that installed packages register under a group, such as `apportion.methods`.

    Raises:
        ApportionError: A package's module cannot be imported.
    """
    for entry in entry_points(group=group):
        try:
            entry.load()
        except Exception as error:
            raise ApportionError(
                f"{entry.value}, which a package registers as {group!r}, cannot be imported: {type(error).__name__}: "
                f"{error}; repair or remove that package."
            ) from error
