"""Options in a name: what `name(option=value, …)` says, as on the command line."""

from __future__ import annotations

import ast
from typing import Any

from apportion._errors import ApportionError


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
