"""Inside the library an addition takes the files and lines that the page about extending promises."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from tests.architecture.imports import SOURCE, defined
from tests.docs.pages import ROOT
from tests.extending.page import additions

PACKAGE = SOURCE / "apportion"
WITH_EXAMPLE = {what: one for what, one in additions().items() if one.example is not None}
#: The folder whose `__init__` gets the line.
FOLDERS = {
    "a rule for an operation": "relevance",
    "a named rule": "relevance",
    "a recipe": "methods/backward",
    "a method": "methods/forward",
    "a masker": "games/maskers",
    "a measure": "evaluation",
    "a view": "report",
    "a kind of model": "models/kinds",
    "a target": "targets",
    "a type of result": "results",
}
USES = """
import json
import apportion as ap
from apportion.evaluation import as_measure
from apportion.methods import as_method
from apportion.models.kinds import KINDS
from apportion.relevance._doubling import Double
from apportion.results._halves import halves
from apportion.targets._lead import Lead
from tests.tiny import tiny, tokenizer

explainer = ap.Explainer(tiny("llama"), tokenizer("causal"))
names = ["attnlrp(activation='still')", "half-frozen", "recency", "leave-one-out(masker='previous-token')"]
found = [explainer.explain("The man", method=name) for name in names]
print(json.dumps({
    "rule": Double.__module__,
    "scores": [one.scores.isfinite().all().item() for one in found],
    "measure": as_measure("concentration").name,
    "view": ": mostly " in repr(found[0]),
    "kind": KINDS["first-token-tagger"].name,
    "target": explainer.explain("The man", target=Lead()).target.label,
    "result": repr(halves(found[0]))[:10],
}))
"""


def mentions(name: str) -> dict[Path, int]:
    """The files whose code has this name, also as a module's, with the number of lines where it stands."""
    found = {}
    for path in sorted((*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi"))):
        words = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        lines = {word.start[0] for word in words if word.type == tokenize.NAME and word.string == name}
        if lines or path.stem == name:
            found[path] = len(lines)
    return found


def inside(text: str) -> str:
    """An example as it stands inside the library, where names are taken from their rooms."""
    names = set(re.findall(r"\bap\.(?:(evaluation)\.)?(\w+)", text))
    taken = [f"from {defined('.'.join(('apportion', room)).rstrip('.'), name)} import {name}" for room, name in names]
    return re.sub(r"\bap\.(evaluation\.)?", "", text.replace("import apportion as ap\n", "\n".join((*taken, ""))))


@pytest.mark.parametrize("what", WITH_EXAMPLE)
def test_nothing_else_knows_an_example_of_the_library(what: str) -> None:
    addition = WITH_EXAMPLE[what]
    assert addition.example is not None
    found = mentions(addition.example)
    own = [path for path in found if path.stem != "__init__"]
    assert len(own) == addition.files, f"{addition.example} is named in {own}"
    passing_on = {path: lines for path, lines in found.items() if path.stem == "__init__"}
    assert all(path.parent in own[0].parents for path in passing_on), passing_on
    assert set(passing_on.values()) == {addition.lines}, passing_on


def test_each_example_of_the_page_fits_into_the_library(tmp_path: Path) -> None:
    """A copy of the library gets all examples of the page: their files, and lines in `__init__`."""
    shutil.copytree(PACKAGE, tmp_path / "apportion", ignore=shutil.ignore_patterns("__pycache__"))
    for what, addition in additions().items():
        ((name, text),) = addition.written.items()
        parts = {FOLDERS[what]: text}
        if what == "a type of result":
            data, split, view = text.partition("\n\ndef line(")
            head = "from matplotlib.figure import Figure\nimport apportion as ap\n"
            head += "from apportion.results._halves import Halves\n"
            parts = {"results": data, "report": head + split + view}
        assert len(parts) == addition.files == addition.lines
        for folder, code in parts.items():
            home = tmp_path / "apportion" / folder
            assert not (home / f"_{name}").exists()
            (home / f"_{name}").write_text(inside(code))
            module = f"_{Path(name).stem}"
            with (home / "__init__.py").open("a") as file:
                file.write(f"from apportion.{folder.replace('/', '.')} import {module} as {module}\n")
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-c", USES],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "rule": "apportion.relevance._doubling",
        "scores": [True] * 4,
        "measure": "concentration",
        "view": True,
        "kind": "first-token-tagger",
        "target": "lead",
        "result": "first half",
    }
