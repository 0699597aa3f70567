"""Commands: a function lists its own options and the groups of options that it shares with other commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from enum import Enum
from functools import partial, wraps
from typing import Any, get_type_hints

import typer

from apportion.cli._app import app, errors_in_one_line, examples, waiting

PANELS = ("What is explained", "How it is explained", "Where the result goes", "How the model runs")
#: An option in each of the panels of `--help`.
what, how, output, running = (partial(typer.Option, rich_help_panel=panel) for panel in PANELS)


class Options:
    """A group of options: a frozen dataclass whose fields are declared like the parameters of a command."""

    def check(self) -> None:
        """Reject options that do not fit, as far as possible without torch."""

    def resolve(self) -> None:
        """Reject options that do not fit, as far as possible before a model is loaded."""


def command(*shown: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command of its name, with examples; its docstring is the help.

    A parameter that is a group of options takes all of them. When the function is called, every group is checked.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        return app.command(epilog=examples(*shown))(_with_options(function))

    return register


def given(**options: Any) -> dict[str, Any]:
    """The options that were given, as the library takes them; the others keep the library's defaults."""
    said = {name: value for name, value in options.items() if value is not None and value is not False}
    return {name: value.value if isinstance(value, Enum) else value for name, value in said.items()}


def _with_options(function: Callable[..., None]) -> Callable[..., None]:
    """A function for typer: with the options of each group as parameters in its place."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {
        name: kind for name, kind in hints.items() if isinstance(kind, type) and issubclass(kind, Options)
    }
    parameters = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in groups:
            parameters += _parameters(groups[name])
        else:
            parameters.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(function)
    def run(**values: Any) -> None:
        with errors_in_one_line():
            quiet = values.get("quiet", False)
            built = {name: kind(**{f.name: values.pop(f.name) for f in fields(kind)}) for name, kind in groups.items()}
            for group in built.values():
                group.check()
            with waiting("importing torch and transformers", quiet=quiet):
                for group in built.values():
                    group.resolve()
            function(**built, **values)

    signature = inspect.Signature(sorted(parameters, key=_panel))
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return run


def _parameters(group: Any) -> list[inspect.Parameter]:
    """The options of a group."""
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]


def _panel(parameter: inspect.Parameter) -> int:
    """A parameter's place in the help, since typer shows the panels in the order of the parameters."""
    (option,) = parameter.annotation.__metadata__
    return PANELS.index(option.rich_help_panel) if option.rich_help_panel else -1
