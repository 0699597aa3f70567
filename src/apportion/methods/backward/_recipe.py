"""A recipe: a composite under a name, usable like any other method."""

from __future__ import annotations

from collections.abc import Callable

from apportion.methods._method import Conserves
from apportion.methods._registry import register
from apportion.methods.backward._propagation import Propagation
from apportion.relevance import Composite


def register_recipe(
    composite: Composite, *, conserves: Conserves = "no", source: str = ""
) -> Callable[[], Propagation]:
    """Make a composite usable by its name: in `explain`, `compare`, the command line and the evaluation.

        ap.register_recipe(ap.Composite(name="half-frozen", norm="frozen"))
        explainer.explain("The keys", method="half-frozen")

    Args:
        composite: Its name is what users write, in lower case with hyphens.
        conserves: Whether the shares sum to the target; see `About`.
        source: The paper.

    Raises:
        ApportionError: The name is taken, or has other characters.
    """

    class Recipe(Propagation):
        """Relevance under a named composite."""

        def __init__(self) -> None:
            super().__init__(composite)

    Recipe.__qualname__ = Recipe.__name__ = f"Recipe({composite.name})"
    cost = "1 forward, 1 backward"
    return register(composite.name, family="backward", conserves=conserves, cost=cost, source=source)(Recipe)
