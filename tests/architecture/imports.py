"""The imports of the package, read from its sources: lazy ones and those for type checkers count."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
PACKAGE = "apportion"


@dataclass(frozen=True)
class Import:
    """One name that one file takes from another.

    Args:
        file: The module that imports, such as `apportion.task._task`.
        written: The module it is taken from, as written.
        name: What is taken; empty for a module.
        defined: The module that defines it, once the folders' `__init__` have been followed.
    """

    file: str
    written: str
    name: str
    defined: str


@cache
def modules() -> dict[str, Path]:
    """The package's modules and their files."""
    return {_name(path): path for path in sorted((SOURCE / PACKAGE).rglob("*.py"))}


def is_folder(module: str) -> bool:
    """Whether a module is the `__init__` of a folder."""
    return modules()[module].name == "__init__.py"


def room(module: str) -> str:
    """The room of a module: its folder below the package, or the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (SOURCE / PACKAGE / parts[1]).is_dir() else PACKAGE


@cache
def imports() -> tuple[Import, ...]:
    """Every import of one file from another; what a folder's `__init__` passes on is none."""
    return tuple(_imports())


def _imports() -> Iterator[Import]:
    for module, path in modules().items():
        if is_folder(module):
            continue
        for written, name in _taken(ast.parse(path.read_text())):
            source = defined(written, name)
            if source != module:
                yield Import(module, written, name, source)


def _taken(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The module and name of each import, also of one by `import_module` with a text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == PACKAGE)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            given = ast.unparse(node.args[0]).lstrip("f").strip("'\"")
            if given.split(".")[0] == PACKAGE:
                yield given.partition("{")[0].rstrip("."), ""


def defined(module: str, name: str) -> str:
    """The module that defines a name which a folder passes on."""
    for _ in range(9):
        passed_on = _passed_on(module).get(name)
        if passed_on is None:
            break
        module, name = passed_on
    return f"{module}.{name}" if f"{module}.{name}" in modules() else module


@cache
def _passed_on(folder: str) -> dict[str, tuple[str, str]]:
    """For each name that a folder passes on the module that it comes from, and its name there."""
    if folder not in modules() or not is_folder(folder):
        return {}
    path = modules()[folder]
    stub = path.with_suffix(".pyi")
    found: dict[str, tuple[str, str]] = {}
    for node in ast.walk(ast.parse((stub if stub.exists() else path).read_text())):
        if isinstance(node, ast.ImportFrom):
            source = f"{folder}.{node.module}" if node.level else node.module
            if node.module and source is not None and source.split(".")[0] == PACKAGE:
                found |= {alias.asname or alias.name: (source, alias.name) for alias in node.names}
    return found


def _name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
