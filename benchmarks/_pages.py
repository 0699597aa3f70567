"""Blocks of the documentation that measurements write."""

import re
from pathlib import Path


def write_block(page: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- end of name -->` on a page."""
    before = page.read_text()
    pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end of {re.escape(name)} -->)", re.DOTALL)
    if not pattern.search(before):
        raise SystemExit(f"error: {page} has no block {name!r}.")
    page.write_text(pattern.sub(lambda match: f"{match[1]}\n{text.strip()}\n\n{match[2]}", before))
