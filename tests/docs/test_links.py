"""Every link of the documentation leads somewhere, every page can be reached, and every name exists."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import apportion
from tests.docs.pages import DOCS, PAGES, ROOT, anchors, blocks, inline, links, name_of

NAME = re.compile(r"\b(?:ap|apportion)((?:\.[A-Za-z_]\w*)+)")


def inside(page: Path) -> Iterator[tuple[str, Path, str]]:
    """Links to files of the repository: the address, the file, and the anchor."""
    for address in links(page):
        if not re.match(r"[a-z]+:", address):
            file, _, anchor = address.partition("#")
            yield address, (page.parent / file).resolve() if file else page, anchor


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page):
    for address, file, anchor in inside(page):
        assert file.exists(), f"{address}: no such file"
        assert not anchor or anchor in anchors(file), f"{address}: no such heading"


def test_every_page_is_reached_from_the_index():
    reached, waiting = set(), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        for _, file, _ in inside(page):
            waiting += file.glob("*.md") if file.is_dir() else [file] if file.suffix == ".md" else []
    assert not sorted(name_of(page) for page in set(DOCS.rglob("*.md")) - reached)


def test_the_readme_leads_to_the_index():
    assert DOCS / "index.md" in {file for _, file, _ in inside(ROOT / "README.md")}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_name_of_the_library_exists(page):
    code = [token.content for token in inline(page, "code_inline")]
    code += [block.code for block in blocks(page) if block.language == "python"]
    for path in {match[1] for text in code for match in NAME.finditer(text)}:
        assert exists(path[1:].split(".")), f"apportion{path} does not exist"


def exists(names: list[str]) -> bool:
    found, path = apportion, "apportion"
    for name in names:
        path = f"{path}.{name}"
        if not hasattr(found, name):
            try:
                importlib.import_module(path)
            except ModuleNotFoundError:
                return False
        found = getattr(found, name)
    return True
