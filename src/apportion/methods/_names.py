"""The methods by name."""

from __future__ import annotations

from collections.abc import Callable

from apportion._errors import ApportionError
from apportion.methods._method import Method
from apportion.methods._propagation import CPLRP, AttnLRP, InputXGradient, Propagation
from apportion.relevance import Composite

METHODS: dict[str, Callable[[], Method]] = {
    "attnlrp": AttnLRP,
    "cp-lrp": CPLRP,
    "input-x-gradient": InputXGradient,
}

AnyMethod = str | Method | Composite


def as_method(method: AnyMethod) -> Method:
    """The method that a name, a composite or a method stands for.

    Raises:
        ApportionError: There is no method of that name.
    """
    if isinstance(method, Method):
        return method
    if isinstance(method, Composite):
        return Propagation(method)
    if method in METHODS:
        return METHODS[method]()
    raise ApportionError(f"there is no method {method!r}; the methods are {', '.join(METHODS)}.")
