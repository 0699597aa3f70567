"""The page about evaluation says what is there."""

from __future__ import annotations

import re
from pathlib import Path

import apportion as ap
from apportion.evaluation import MEASURES, Evaluation, Row
from tests.tiny import tiny, tokenizer

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()


def test_the_documented_measures_are_the_registry():
    rows = [line for line in PAGE.splitlines() if re.match(r"\| (`[a-z-]+`)? \| `", line)]
    expected = []
    for name, measure in sorted(MEASURES.items()):
        if measure.__module__.startswith("apportion."):
            for i, column in enumerate(measure.columns):
                first = f"`{name}`" if i == 0 else ""
                better = "a curve" if column.curve else column.better or "neither"
                expected.append(f"| {first} | `{column.name}` | {better} | {column.meaning} |")
    assert rows == expected


def test_the_documented_fields_are_those_of_a_row():
    rows = [line for line in PAGE.partition("| field |")[2].splitlines() if line.startswith("| `")]
    fields = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(fields) == sorted(Row.__dataclass_fields__)


def test_the_documented_tables_are_methods_of_an_evaluation():
    for name in re.findall(r"found\.(\w+)\(", PAGE):
        assert callable(getattr(Evaluation, name))


def test_the_documented_measure_of_one_s_own_can_be_used():
    known = dict(MEASURES)
    (source,) = re.findall(r"```python\n(from dataclasses import.*?)```", PAGE, re.DOTALL)
    try:
        # Without "from __future__ import annotations", as users run it.
        exec(compile(source, "<docs>", "exec", dont_inherit=True), {"__name__": "mine"})
        explainer = ap.Explainer(tiny("llama"), tokenizer("causal"))
        found = explainer.evaluate(["The man"], methods=["gradient"], measures=["sparsity"], progress=False)
        assert 0 < found.summary()["mean"][0] <= 1
    finally:
        MEASURES.clear()
        MEASURES.update(known)
