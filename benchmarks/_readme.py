"""Blocks of the README that measurements write."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def write_block(name: str, text: str) -> None:
    """Replace what stands between `<!-- name: … -->` and `<!-- end of name -->`."""
    page = README.read_text()
    pattern = re.compile(rf"(<!-- {name}:[^>]*-->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"error: README.md has no block {name!r}.")
    README.write_text(pattern.sub(lambda match: f"{match[1]}{text.strip()}\n{match[2]}", page))
