"""Data flows one way: no room imports from a room above it, no files import one another in a circle."""

from __future__ import annotations

from collections import defaultdict
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.architecture.imports import PACKAGE, imports, is_folder, modules, room

#: The rooms from the lowest floor up. A room may import from the floors below it; the package itself only passes names
#: on, and the command line stands above it.
FLOORS = (
    "core",
    "targets",
    "relevance",
    "models",
    "results",
    "task",
    "games",
    "methods",
    "metagame",
    "engine",
    "report",
    "evaluation",
    "diffusion",
    "explain",
    PACKAGE,
    "cli",
)
MOST_ROOMS = 20

#: Nothing imports what `python -m apportion` runs.
STARTED = f"{PACKAGE}.__main__"


def test_every_room_has_a_floor() -> None:
    rooms = {room(module) for module in modules() if module != STARTED}
    assert rooms == set(FLOORS)
    assert len(rooms) <= MOST_ROOMS


def test_no_import_runs_up() -> None:
    floor = {name: height for height, name in enumerate(FLOORS)}
    up = [one for one in imports() if one.file != STARTED and floor[room(one.defined)] > floor[room(one.file)]]
    assert not up, "\n".join(f"{one.file} imports {one.name} of {one.defined}" for one in up)


def test_no_files_import_one_another_in_a_circle() -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    for one in imports():
        graph[one.file].add(one.defined)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_rooms_take_names_of_other_rooms_through_the_folder() -> None:
    inside = [
        one
        for one in imports()
        if room(one.written) != room(one.file) and any(part.startswith("_") for part in one.written.split(".")[1:])
    ]
    assert not inside, "\n".join(f"{one.file} reaches into {one.written}" for one in inside)


def test_a_private_name_stays_in_its_room() -> None:
    taken = [one for one in imports() if room(one.defined) != room(one.file) and one.name.startswith("_")]
    taken = [one for one in taken if not one.name.endswith("__")]
    assert not taken, "\n".join(f"{one.file} takes {one.name} of {one.defined}" for one in taken)


def test_a_folder_takes_names_only_to_pass_them_on() -> None:
    """An `__init__` that computes something would be a file without a name."""
    for module in filter(is_folder, modules()):
        text = modules()[module].read_text()
        assert "def " not in text, module
