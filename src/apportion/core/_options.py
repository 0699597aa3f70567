"""Options in a name: what `name(option=value, …)` says and stands for, as on the command line."""

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

    Args:
        text: With its name.
        example: What the error shows.

    Raises:
        ApportionError: The text is not of this form.
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
    """The name in `name(option=value, …)`, which may stand alone."""
    return text.partition("(")[0].strip()


def made_by_name(text: str, makers: Mapping[str, Callable[..., T]], *, what: str, example: str) -> T:
    """What a name, perhaps with options, stands for.

    Args:
        text: `"name"` or `"name(option=value, …)"`.
        makers: By name, in the order in which an error lists them.
        what: What is made, as an error calls it, such as `"method"`.
        example: As in `options_in`.

    Raises:
        ApportionError: There is nothing of that name, or it has no such option or lacks one.
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
