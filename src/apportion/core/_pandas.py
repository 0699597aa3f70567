"""pandas for tables, and the error if it is missing."""

from __future__ import annotations

from typing import Any

from apportion.core._errors import ApportionError


def pandas_module() -> Any:
    """The module pandas.

    Raises:
        ApportionError: It is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ApportionError("tables need pandas: pip install 'apportion[figures]' or pandas itself.") from error
    return pandas
