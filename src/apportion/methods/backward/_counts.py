"""Checks of numbers that several methods have as options."""

from __future__ import annotations

from apportion.core import ApportionError


def check_count(name: str, given: int, *, least: int) -> None:
    """Reject a count that is no whole number, or below the least that works."""
    if not isinstance(given, int) or isinstance(given, bool) or given < least:
        raise ApportionError(f"{name}={given!r} is not possible; give a whole number of {least} or more.")


def check_batch_size(given: int | None) -> None:
    """Reject a batch size that is neither None nor a whole number above 0."""
    if given is not None:
        check_count("batch_size", given, least=1)
