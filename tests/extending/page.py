"""The page about extending: how many files each addition takes, and the files of its examples."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from tests.docs.pages import DOCS, blocks, tokens

PAGE = DOCS / "extending.md"
ROW = re.compile(
    r"^\| \[(?P<what>[^\]]+)\]\(#[\w-]+\) \| (?:`(?P<example>\w+)` )?\| (?P<files>\d) files? \+ (?P<lines>\d) lines? "
    r"\| (?P<plugin>\d) files? \|",
    re.MULTILINE,
)


@dataclass(frozen=True, kw_only=True)
class Addition:
    """A row of the page's table.

    Args:
        files: How many files it takes inside the library.
        lines: How many lines of other files, all of them in an `__init__`.
        plugin: How many files it takes in a plugin.
        example: A name in the library that was added so; None where there is none.
        written: The files of the page's example: names and texts.
    """

    files: int
    lines: int
    plugin: int
    example: str | None
    written: dict[str, str]


@cache
def additions() -> dict[str, Addition]:
    """The rows by what is added."""
    found = {
        row["what"]: Addition(
            files=int(row["files"]),
            lines=int(row["lines"]),
            plugin=int(row["plugin"]),
            example=row["example"],
            written=_written(row["what"]),
        )
        for row in ROW.finditer(PAGE.read_text())
    }
    assert list(found) == [heading.lower() for heading in _headings()]
    return found


def _headings() -> dict[str, int]:
    """The headings of the examples, and the lines where they stand."""
    found = {}
    for before, token in zip(tokens(PAGE), tokens(PAGE)[1:], strict=False):
        if before.type == "heading_open" and before.tag == "h2":
            assert before.map is not None
            found[token.content] = before.map[0]
    return found


def _written(what: str) -> dict[str, str]:
    """The files in the section under a heading, each of which begins with a comment that names it."""
    starts = {heading.lower(): line for heading, line in _headings().items()}
    ends = [line for line in starts.values() if line > starts[what]]
    mine = [b.code for b in blocks(PAGE) if starts[what] < b.line < min(ends, default=10**9) and b.language == "python"]
    return {match[1]: code for code in mine if (match := re.match(r"# (\w+\.py)\n", code))}
