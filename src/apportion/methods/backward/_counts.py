"""Checks of the numbers that several methods take as options."""

from __future__ import annotations

from apportion.core import ApportionError


def check_count(name: str, given: int, *, least: int) -> None:
    """Refuse a count below the least that works.

    Raises:
        ApportionError: It is no whole number, or too small.
    """
    if not isinstance(given, int) or isinstance(given, bool) or given < least:
        raise ApportionError(f"{name}={given!r} is not possible; give a whole number of {least} or more.")


def check_batch_size(given: int | None) -> None:
    """Refuse a batch without a row.

    Raises:
        ApportionError: It is no whole number above 0, nor None.
    """
    if given is not None:
        check_count("batch_size", given, least=1)
