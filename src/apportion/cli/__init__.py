"""The command line: parses, calls, writes; holds no mathematics.

Whatever needs torch is imported where it is used, so that help and mistakes are answered at once.
"""

from apportion.cli import _audit, _compare, _evaluate, _explain, _generate, _methods  # noqa: F401 - each adds its command
from apportion.cli._app import app as app
