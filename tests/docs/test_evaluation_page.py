"""The page about evaluation lists the measures and fields that there are."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

from apportion.evaluation import MEASURES, Row

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()


def table(heading: str) -> list[str]:
    """The rows of the table that begins with this heading."""
    lines = PAGE.partition(f"\n{heading}")[2].splitlines()
    return list(takewhile(lambda line: line.startswith("| "), lines[2:]))


def test_the_documented_measures_are_the_registry():
    expected = []
    for name, measure in sorted(MEASURES.items()):
        if measure.__module__.startswith("apportion."):
            for i, column in enumerate(measure.columns):
                first = f"`{name}`" if i == 0 else ""
                better = "a curve" if column.curve else column.better or "neither"
                expected.append(f"| {first} | `{column.name}` | {better} | {column.meaning} |")
    assert table("| measure |") == expected


def test_the_documented_fields_are_those_of_a_row():
    fields = [name for row in table("| field |") for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(fields) == sorted(Row.__dataclass_fields__)
