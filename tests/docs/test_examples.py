"""Every example of the documentation runs, or says why it does not."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import pytest
from typer.testing import CliRunner

import apportion as ap
from apportion import cli
from tests.docs import workplace
from tests.docs.pages import PAGES, Block, blocks, name_of, tokens
from tests.registries import REGISTRIES, given_back

RUN = ("python", "sh")
#: Fences that hold data or another program's settings.
READ = ("json", "text", "toml")
WITH_CODE = [page for page in PAGES if "decisions" not in page.parts and any(b.language in RUN for b in blocks(page))]
#: Items that an evaluation measures here, whatever the example says, and as many as a recommendation needs.
FEW, NEEDED = 2, 5


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    workplace.make(folder)
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder with everything that examples name; evaluations are short, and no registry keeps what they add."""
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("apportion.models._demo.demo_folder", lambda: tmp_path / "my-model")
    shorten(monkeypatch)
    known = set(sys.modules)
    with as_at_the_start():
        yield tmp_path
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def shorten(monkeypatch) -> None:
    """Let evaluations and recommendations measure few items."""
    evaluate, recommend = ap.Explainer.evaluate, ap.Explainer.recommend

    def evaluated(explainer, *args, limit=None, **options):
        return evaluate(explainer, *args, limit=FEW, **options)

    def recommended(explainer, *args, limit=None, **options):
        with monkeypatch.context() as whole:
            whole.setattr(ap.Explainer, "evaluate", evaluate)
            return recommend(explainer, *args, limit=NEEDED, **options)

    monkeypatch.setattr(ap.Explainer, "evaluate", evaluated)
    monkeypatch.setattr(ap.Explainer, "recommend", recommended)


@contextmanager
def as_at_the_start() -> Iterator[None]:
    """Registries have what is the library's own, as in a new process; then again all that they had."""
    with given_back():
        for registry in REGISTRIES:
            for name, entry in dict(registry).items():
                if not entry.__module__.startswith("apportion."):
                    del registry[name]
        yield


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_the_examples_run(page, here):
    namespace = workplace.names(name_of(page))
    for block in blocks(page):
        if block.not_run is None and block.language == "python":
            run_python(block, namespace)
        elif block.not_run is None and block.language == "sh":
            run_shell(block)


def run_python(block: Block, namespace: dict) -> None:
    """Run a block, or write it where its first line names a file. Errors show the page and its line."""
    first = block.code.split("\n", 1)[0]
    if first.startswith("# ") and first.endswith(".py"):
        Path(first[2:]).write_text(block.code)
        return
    code = compile("\n" * (block.line - 1) + block.code, block.page, "exec", dont_inherit=True)
    namespace.setdefault("__name__", "example")
    exec(code, namespace)


def run_shell(block: Block) -> None:
    for line in block.code.replace("\\\n", " ").splitlines():
        program, *args = shlex.split(line, comments=True)
        assert program == "apportion", f"{block.page}:{block.line}: {line}"
        with as_at_the_start():
            result = CliRunner().invoke(cli.app, args, prog_name="apportion")
        assert result.exit_code == 0, f"{block.page}:{block.line}: {line}\n{result.output}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_names_its_language(page):
    for block in blocks(page):
        assert block.language in (*RUN, *READ), f"{block.page}:{block.line}: {block.language!r}"
    indented = [token.map[0] + 1 for token in tokens(page) if token.type == "code_block"]
    assert not indented, f"code without a language at lines {indented}"


@pytest.mark.parametrize(
    "block",
    [block for page in PAGES for block in blocks(page) if block.not_run is not None],
    ids=lambda block: f"{block.page}:{block.line}",
)
def test_what_is_not_run_says_why(block):
    assert block.not_run, "give the reason: <!-- not run: reason -->"
    pytest.skip(block.not_run)
