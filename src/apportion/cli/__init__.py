"""The command line: parses, calls, writes; holds no mathematics.

Whatever needs torch is imported where it is used, so that help and mistakes are answered at once.
"""

from apportion.cli import (  # noqa: F401 - each adds its command
    _audit,
    _compare,
    _evaluate,
    _explain,
    _generate,
    _interactions,
    _methods,
    _pairs,
)
from apportion.cli._app import app as app
