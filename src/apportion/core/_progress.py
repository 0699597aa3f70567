"""A progress bar for what takes long: on standard error, only where somebody watches, and gone when it is done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def progress(steps: Iterable[T], doing: str, *, show: bool, total: int | None = None) -> Iterator[T]:
    """The steps, with a progress bar that says `doing`; give `total` if `steps` has no length."""
    console = Console(stderr=True)
    yield from track(
        steps, doing, total=total, console=console, transient=True, disable=not (show and console.is_terminal)
    )
