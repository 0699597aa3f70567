"""Options in a name: `name(option=value, …)`, as on the command line."""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from apportion.core._errors import ApportionError

T = TypeVar("T")


def options_in(text: str, *, example: str) -> dict[str, Any]:
    """The options in `name(option=value, …)`, whose values are Python literals.

    Raises:
        ApportionError: The text does not have this form; the message shows `example`.
    """
    wrong = f"cannot read the options in {text!r}; write them like {example}."
    try:
        call = ast.parse(f"method{text[text.index('(') :].strip()}", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(k.arg is None for k in call.keywords):
            raise ApportionError(wrong)
        return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise ApportionError(wrong) from error


def name_in(text: str) -> str:
    """The name in `name(option=value, …)` or `name`."""
    return text.partition("(")[0].strip()


def made_by_name(text: str, makers: Mapping[str, Callable[..., T]], *, what: str, example: str) -> T:
    """The object for a `"name"` or `"name(option=value, …)"`.

    Args:
        text: The name.
        makers: By name, in the order in which an error lists them.
        what: The kind of object for errors, such as `"method"`.
        example: As in `options_in`.

    Raises:
        ApportionError: The name or an option is unknown, or an option is missing.
    """
    name = name_in(text)
    if name not in makers:
        close = difflib.get_close_matches(name, makers, n=1)
        meant = f"did you mean {close[0]!r}? The" if close else "the"
        raise ApportionError(f"there is no {what} {name!r}; {meant} {what}s are {', '.join(makers)}.")
    options = options_in(text, example=example) if "(" in text else {}
    known = list(inspect.signature(makers[name]).parameters)
    for option in options:
        if option not in known:
            fits = f"its options are {', '.join(known)}" if known else "it has no options"
            raise ApportionError(f"the {what} {name!r} has no option {option!r}; {fits}.")
    try:
        return makers[name](**options)
    except TypeError as error:
        raise ApportionError(f"the {what} {name!r} cannot be made: {error}.") from error
