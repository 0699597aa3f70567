"""The command line: parses, calls, writes; holds no mathematics.

A command is one file here and one line below. It lists the options that are its own and takes those it shares in
groups; see `_command`. Help and mistakes are answered without torch, so what needs torch is resolved when it is used.
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
