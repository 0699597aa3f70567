"""Views of results of several targets: each target's view below the one before."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Group, RenderableType
from rich.text import Text

from apportion.core import View
from apportion.report.kit._page import pages_in_one
from apportion.results import OfTargets

if TYPE_CHECKING:
    import matplotlib.figure

R = TypeVar("R", bound=OfTargets)


def one_after_another(view: View[R]) -> View[R]:
    """A view that shows a result of one target as `view` does, and one of several target by target."""

    def terminal(found: R) -> RenderableType:
        shown = [part for one in found for part in (Text(), view.terminal(one))]
        return Group(*shown[1:])

    def fragment(found: R) -> str:
        return "\n".join(view.fragment(one) for one in found)

    def page(found: R) -> str:
        if not found.several:
            return view.page(found)
        return pages_in_one("", [("", view.fragment(one)) for one in found])

    def figure(found: R, *given: Any, **options: Any) -> matplotlib.figure.Figure:
        found.check_single("plot()")
        return view.figure(found[0] if found.several else found, *given, **options)

    drawn: Callable[..., matplotlib.figure.Figure] = figure
    return View(terminal=terminal, fragment=fragment, page=page, figure=drawn)
