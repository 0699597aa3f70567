"""The audit as a page: for each module what its operations were taken for, with alike layers as one."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from apportion.relevance import Audit
from apportion.report.audit._rows import gathered, merged
from apportion.report.kit import small_fragment, small_page


def audit_fragment(audit: Audit) -> str:
    """The rules of each module, and whether every promised one was applied, for a notebook's output."""
    return small_fragment("audit.html", _context(audit))


def audit_page(audit: Audit) -> str:
    """The same as one HTML file."""
    return small_page("audit.html", f"Audit of {audit.composite.name}", _context(audit))


def _context(audit: Audit) -> dict[str, Any]:
    rows = sorted(gathered(merged(audit.rows)), key=lambda row: row.module)
    return {
        "name": audit.composite.name,
        "rules": str(audit.composite),
        "reached": audit.reached,
        "recorded": audit.recorded,
        "missing": audit.missing,
        "modules": [(module, list(members)) for module, members in groupby(rows, key=lambda row: row.module)],
    }
