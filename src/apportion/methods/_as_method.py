"""Methods as users give them: a name with options, a composite, or a method."""

from __future__ import annotations

from apportion.core import made_by_name, name_in
from apportion.methods._method import Method
from apportion.methods._plugins import load_installed_plugins
from apportion.methods._registry import METHODS, method_names
from apportion.relevance import Composite

AnyMethod = str | Method | Composite


def as_method(method: AnyMethod) -> Method:
    """A method from a name, a composite or a method; a name may carry options: `"smoothgrad(samples=8)"`.

    Raises:
        ApportionError: There is no method of that name, or it has no such option.
    """
    if isinstance(method, Method):
        return method
    if isinstance(method, Composite):
        from apportion.methods.backward import Propagation

        return Propagation(method)
    if name_in(method) not in METHODS:
        load_installed_plugins()
    makers = {name: METHODS[name] for name in method_names()}
    example = "integrated-gradients(steps=20, baseline='mean')"
    return made_by_name(method, makers, what="method", example=example)
