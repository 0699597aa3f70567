"""The pages of the documentation: their headings, links and code blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
#: Every page that we write.
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")))
NOT_RUN = re.compile(r"<!-- not run: *(.*?) *-->", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of code.

    Args:
        page: The page's path from the root of the repository.
        line: Where its code begins.
        language: `"python"`, `"sh"`, …; `""` where the fence names none.
        code: What it says.
        not_run: Why it is not run; None where it is run.
    """

    page: str
    line: int
    language: str
    code: str
    not_run: str | None


def name_of(page: Path) -> str:
    """Its path from the root of the repository."""
    return str(page.relative_to(ROOT))


@cache
def tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text())


def inline(page: Path, kind: str) -> Iterator[Token]:
    """The inline tokens of one type, such as `"link_open"` or `"code_inline"`."""
    for token in tokens(page):
        yield from (child for child in token.children or () if child.type == kind)


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found, comment = [], None
    for token in tokens(page):
        if token.type == "html_block":
            comment = NOT_RUN.fullmatch(token.content.strip())
            continue
        if token.type == "fence":
            assert token.map is not None
            found.append(
                Block(
                    page=name_of(page),
                    line=token.map[0] + 2,
                    language=token.info.strip(),
                    code=token.content,
                    not_run=comment[1] if comment else None,
                )
            )
        comment = None
    return found


def links(page: Path) -> list[str]:
    """The addresses of links and images."""
    addresses = [token.attrGet("href") for token in inline(page, "link_open")]
    return [str(address) for address in (*addresses, *(token.attrGet("src") for token in inline(page, "image")))]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for before, token in zip(tokens(page), tokens(page)[1:], strict=False):
        if before.type == "heading_open":
            words = "".join(child.content for child in token.children or ())
            anchor = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
            copies = sum(1 for known in found if known == anchor or re.fullmatch(rf"{re.escape(anchor)}-\d+", known))
            found.add(f"{anchor}-{copies}" if copies else anchor)
    return found
