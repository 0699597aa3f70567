"""Shown: a result finds its view by its type, and knows nothing else about screens."""

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

#: The entry points that bring views: `apportion.report`, and those of plugins.
GROUP = "apportion.views"

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class View(Generic[R]):
    """How one kind of result is seen.

    Args:
        terminal: What `rich.print` shows.
        fragment: HTML for a notebook's output: needs no script, and its styles hold for itself alone.
        page: One HTML file that asks nothing of the network.
        figure: A matplotlib figure that belongs to no pyplot state, with the options that `plot` takes.
    """

    terminal: Callable[[R], RenderableType]
    fragment: Callable[[R], str]
    page: Callable[[R], str]
    figure: Callable[..., matplotlib.figure.Figure]


_VIEWS: dict[type, View[Any]] = {}


def register_view(kind: type[R], view: View[R]) -> None:
    """Show results of a kind, and of its subclasses that have no view of their own, by a view.

        register_view(Spectrum, View(terminal=spectrum_lines, fragment=…, page=…, figure=…))

    A package brings its views with an entry point of the group `apportion.views` that names the module.

    Args:
        kind: The type of the results, a subclass of `Shown`.
        view: How they are seen; a later view of the same type replaces an earlier one.
    """
    _VIEWS[kind] = view


def view_of(kind: type) -> View[Any]:
    """The view of a type of result.

    Raises:
        ApportionError: No view of it, or of a class that it inherits from, is registered.
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
    """A result that the terminal, a notebook, a page and a figure can show."""

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """A self-contained page.

        Args:
            path: Where to write the page; without it the page is only returned.
        """
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
    """What the terminal shows as text, coloured only where stdout is a terminal and `NO_COLOR` is not set."""
    from rich.console import Console

    coloured = sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    console = Console(file=io.StringIO(), force_terminal=coloured, force_jupyter=False, highlight=False)
    with console.capture() as capture:
        console.print(shown)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
