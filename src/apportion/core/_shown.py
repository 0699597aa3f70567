"""Showing results: a result finds its view by its type."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from apportion.core._entry_points import load_entry_points
from apportion.core._errors import ApportionError
from apportion.core._files import write_atomically

if TYPE_CHECKING:
    import matplotlib.figure
    from rich.console import RenderableType

#: The group of entry points that provide views: `apportion.report`, and those of plugins.
GROUP = "apportion.views"

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class View(Generic[R]):
    """How one kind of result is shown.

    Args:
        terminal: Makes the object that `rich.print` shows.
        fragment: Makes HTML for a notebook's output, without scripts and with styles for itself only.
        page: Makes a self-contained HTML page.
        figure: Makes a matplotlib figure outside of pyplot, with the options of `plot`.
    """

    terminal: Callable[[R], RenderableType]
    fragment: Callable[[R], str]
    page: Callable[[R], str]
    figure: Callable[..., matplotlib.figure.Figure]


_VIEWS: dict[type, View[Any]] = {}


def register_view(kind: type[R], view: View[R]) -> None:
    """Register the view of a kind of result, and of its subclasses without a view of their own.

        register_view(Spectrum, View(terminal=spectrum_lines, fragment=…, page=…, figure=…))

    A package provides its views by an entry point of the group `apportion.views` that names the module.

    Args:
        kind: The type of the results, a subclass of `Shown`.
        view: The view; it replaces an earlier view of the same type.
    """
    _VIEWS[kind] = view


def view_of(kind: type) -> View[Any]:
    """The view of a type of result.

    Raises:
        ApportionError: No view of the type or of a parent class is registered.
    """
    load_entry_points(GROUP)
    for base in kind.__mro__:
        if base in _VIEWS:
            return _VIEWS[base]
    raise ApportionError(
        f"there is no view of {kind.__name__}: none is registered under the entry points {GROUP!r}; install the "
        "package again (pip install -e . for a checkout), or register a view with apportion.register_view."
    )


class Shown:
    """A result that can be shown in a terminal, a notebook, a page and a figure."""

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """A self-contained HTML page, which is also written to `path` if that is given."""
        page = view_of(type(self)).page(self)
        if path is not None:
            write_atomically(Path(path), page.encode())
        return page

    def plot(self, *args: Any, **options: Any) -> matplotlib.figure.Figure:
        """A matplotlib figure; needs the extra `figures`."""
        return view_of(type(self)).figure(self, *args, **options)

    def _repr_html_(self) -> str:
        return view_of(type(self)).fragment(self)

    def __rich__(self) -> Any:
        return view_of(type(self)).terminal(self)

    def __repr__(self) -> str:
        try:
            found = view_of(type(self))
        except ApportionError as error:
            return f"<{type(self).__name__}: {error}>"
        return _as_text(found.terminal(self))


def _as_text(shown: Any) -> str:
    """The text that the terminal shows, coloured only if stdout is a terminal and `NO_COLOR` is not set."""
    from rich.console import Console

    coloured = sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    console = Console(file=io.StringIO(), force_terminal=coloured, force_jupyter=False, highlight=False)
    with console.capture() as capture:
        console.print(shown)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
