"""Plugins: methods that users register in files or packages of their own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from apportion.core import ApportionError, load_entry_points

GROUP = "apportion.methods"


def load_plugin(path: Path) -> None:
    """Run a Python file, which registers methods with `@apportion.register`.

    Raises:
        ApportionError: There is no such file, or it cannot be run.
    """
    if path.suffix != ".py" or not path.is_file():
        raise ApportionError(f"the plugin {str(path)!r} is no Python file here; give the path of a .py file.")
    name = f"apportion_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ApportionError(f"the plugin {str(path)!r} cannot be run: {type(error).__name__}: {error}") from error


def load_installed_plugins() -> None:
    """Import the methods of installed packages, from the entry point group `apportion.methods`."""
    load_entry_points(GROUP)
