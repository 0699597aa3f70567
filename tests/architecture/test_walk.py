"""The page about the architecture tells what a call goes through, and its picture shows it."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import apportion as ap
from tests.architecture.imports import PACKAGE, SOURCE
from tests.architecture.test_architecture import FLOORS
from tests.docs.pages import DOCS
from tests.tiny import tiny, tokenizer

PAGE = (DOCS / "architecture.md").read_text()
IMAGES = DOCS / "images"
STEPS = re.findall(r"^\| \d+ \| `([\w/.]+)` \| `([\w.]+)` \|", PAGE, re.MULTILINE)


def called(function: Callable[[], Any]) -> list[tuple[str, str]]:
    """The functions of the package that run, as file and name, in the order of their first calls."""
    home = f"{SOURCE / PACKAGE}/"
    found: dict[tuple[str, str], None] = {}

    def note(frame: FrameType, event: str, argument: Any) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(home):
            found.setdefault((file.removeprefix(home), frame.f_code.co_qualname))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return list(found)


def rooms(steps: list[tuple[str, str]]) -> list[str]:
    """The rooms of steps, in the order in which they are first entered."""
    return list(dict.fromkeys(Path(file).parts[0] for file, _ in steps))


def test_a_call_takes_the_steps_of_the_page() -> None:
    explainer = ap.Explainer(tiny("llama"), tokenizer("causal"))
    taken = called(lambda: explainer.explain("The keys", " are"))
    assert [step for step in STEPS if step not in taken] == []
    places = [taken.index(step) for step in STEPS]
    early = [after for (before, after), (i, j) in zip(pairwise(STEPS), pairwise(places), strict=True) if i > j]
    assert early == []
    assert rooms(taken) == rooms(STEPS)


def test_the_page_lists_the_floors() -> None:
    assert re.findall(r"^\| `(\w+)` \| [^|]+\. \|$", PAGE, re.MULTILINE) == list(reversed(FLOORS))


def test_the_steps_are_numbered() -> None:
    assert [int(number) for number in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)] == [
        number for number, _ in enumerate(STEPS, start=1)
    ]


def test_the_picture_is_of_the_page() -> None:
    spec = importlib.util.spec_from_file_location("architecture_picture", IMAGES / "architecture.py")
    assert spec is not None
    assert spec.loader is not None
    drawing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawing)
    assert (IMAGES / "architecture.svg").read_text() == drawing.picture(PAGE), "run python docs/images/architecture.py"
