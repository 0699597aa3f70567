"""The type checker that `conftest.py` puts around every function of apportion; it can be put to sleep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from beartype import BeartypeConf, beartype

_asleep = False


def checked(function: Callable[..., Any]) -> Any:
    """A function that raises where its arguments or its result do not fit its annotations."""
    strict = beartype(function, conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as for type checkers

    @wraps(function)
    def either(*arguments: Any, **keywords: Any) -> Any:
        return (function if _asleep else strict)(*arguments, **keywords)

    return either


@contextmanager
def unchecked() -> Iterator[None]:
    """As users call it: arguments of a wrong type reach the function's own checks."""
    global _asleep
    before, _asleep = _asleep, True
    try:
        yield
    finally:
        _asleep = before
