"""The options for methods: names with options, the user's own methods, and the library's default."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import apportion as ap
from apportion.cli._command import Options, how
from apportion.core import ApportionError

# A comma that no parenthesis encloses.
BETWEEN = re.compile(r",(?![^(]*\))")


@dataclass(frozen=True, kw_only=True)
class Plugins(Options):
    """Files that register methods."""

    plugin: Annotated[
        list[Path] | None, how("--plugin", metavar="FILE", help="A Python file that registers methods of your own.")
    ] = None

    def resolve(self) -> None:
        """Run the user's own files, which register methods."""
        from apportion.methods import load_plugin

        for path in self.plugin or ():
            load_plugin(path)


@dataclass(frozen=True, kw_only=True)
class Method(Plugins):
    """One method; without a name the library's default for the prompt."""

    method: Annotated[
        str | None,
        how(
            "--method",
            metavar="NAME",
            help="Such as attnlrp, or with options 'smoothgrad(samples=8)'; 'apportion methods' lists all. "
            "Default: attnlrp, and res-lrp for vision models.",
        ),
    ] = None

    def resolve(self) -> None:
        """The method must be known."""
        super().resolve()
        _ = self.chosen

    @cached_property
    def chosen(self) -> ap.Method | None:
        """The method; None if none is named."""
        from apportion.methods import as_method

        return None if self.method is None else as_method(self.method)


def _several(default: str) -> Any:
    return how(
        "--method",
        "--methods",
        metavar="NAMES",
        help="Such as attnlrp,cp-lrp or, with options, 'shapley(budget=256)'; 'apportion methods' lists all. "
        f"May be repeated; several share one forward pass. Default: {default}.",
    )


@dataclass(frozen=True, kw_only=True)
class Methods(Plugins):
    """Several methods."""

    method: Annotated[list[str] | None, _several("attnlrp, and res-lrp for vision models")] = None

    def resolve(self) -> None:
        """Each must be known and named once."""
        super().resolve()
        _ = self.named

    @cached_property
    def named(self) -> dict[str, ap.Method]:
        """The methods by name; empty if none is named."""
        from apportion.methods import as_method

        names = names_in(self.method)
        for name in names:
            if names.count(name) > 1:
                raise ApportionError(f"the method {name!r} is given twice.")
        return {name: as_method(name) for name in names}


@dataclass(frozen=True, kw_only=True)
class AllMethods(Methods):
    """Several methods, or all."""

    method: Annotated[list[str] | None, _several("one of each kind")] = None
    every: Annotated[bool, how("--all", help="Take all methods.")] = False

    @property
    def asked(self) -> dict[str, ap.Method] | Literal["all"] | None:
        """The methods as the library takes them; None if none is named."""
        return "all" if self.every else self.named or None


@dataclass(frozen=True, kw_only=True)
class Layers(Options):
    """Other methods' rules in upper layers."""

    from_layer: Annotated[
        list[str] | None,
        how(
            "--from-layer",
            metavar="N:METHOD",
            help="Follow another method's rules in layer N and above (counted from 0), such as 6:cp-lrp.",
        ),
    ] = None

    def resolve(self) -> None:
        """Each must be a layer and a method that follows rules."""
        _ = self._composites

    def over(self, method: ap.Method) -> ap.Method:
        """A method with the rules of others in upper layers."""
        if not self._composites:
            return method
        composite = _rules_of(method)
        for layer, other in self._composites:
            composite = composite.from_layer(layer, other)
        return ap.Propagation(composite)

    @cached_property
    def _composites(self) -> list[tuple[int, ap.Composite]]:
        from apportion.methods import as_method

        found = []
        for given in self.from_layer or ():
            layer, _, name = given.partition(":")
            if not layer.isdecimal() or not name:
                raise ApportionError(f"--from-layer {given!r} is not of the form N:METHOD, such as 6:cp-lrp.")
            found.append((int(layer), _rules_of(as_method(name))))
        return found


def _rules_of(method: ap.Method) -> ap.Composite:
    if not isinstance(method, ap.Propagation) or type(method).rules is not ap.Propagation.rules:
        raise ApportionError(f"--from-layer is for methods that follow rules of operations; {method.name!r} does not.")
    return method.composite


def default_for(explainer: ap.Explainer, prompt: Any, **regions: Any) -> dict[str, ap.Method]:
    """The library's default for a prompt, by its name."""
    method = explainer.method(None, explainer.prompt(prompt, **regions))
    return {method.name: method}


def names_in(given: Sequence[str] | None) -> list[str]:
    """The names in options that may hold several."""
    return [name for one in given or () for part in BETWEEN.split(one) if (name := part.strip())]
