"""The public names: one table, which Python, type checkers and the user's file agree on."""

from __future__ import annotations

import ast
from pathlib import Path
from types import FunctionType

import apportion as ap
from apportion.core import Shown

STUB = Path(ap.__file__).with_suffix(".pyi")
USER = ast.parse(Path(__file__).with_name("user.py").read_text())


def names_of_checkers() -> list[str]:
    """What the stub passes on: type checkers take `from … import name as name` for public, and nothing else."""
    imported = [
        alias for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    return sorted(alias.name for alias in imported if alias.asname == alias.name)


def test_python_and_type_checkers_see_the_same_names() -> None:
    assert names_of_checkers() == sorted(ap.__all__) == sorted(dir(ap))


def test_every_name_resolves() -> None:
    assert [name for name in ap.__all__ if getattr(ap, name, None) is None] == []


def test_the_users_file_takes_every_name() -> None:
    taken = {
        node.attr
        for node in ast.walk(USER)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ap"
    }
    assert taken == set(ap.__all__)


def test_the_users_file_takes_all_that_the_explainer_and_the_results_can_do() -> None:
    taken = {node.attr for node in ast.walk(USER) if isinstance(node, ast.Attribute)}
    public = [getattr(ap, name) for name in ap.__all__]
    results = [kind for kind in public if isinstance(kind, type) and issubclass(kind, Shown)]
    members = {
        name
        for kind in (ap.Explainer, *results)
        for name, member in vars(kind).items()
        if isinstance(member, FunctionType | property | classmethod) and not name.startswith("_")
    }
    assert members - taken == set()
