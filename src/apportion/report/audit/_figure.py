"""The audit as a figure: how many nodes follow each rule."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from apportion.relevance import Audit
from apportion.report.kit import LIGHT, VERBATIM, bar_figure, figure_class

if TYPE_CHECKING:
    import matplotlib.figure

# Characters of a rule's name.
LABEL = 48


def audit_figure(audit: Audit) -> matplotlib.figure.Figure:
    """A bar for each rule, as long as the number of nodes that follow it.

    Raises:
        ApportionError: matplotlib is not installed.
    """
    counts: Counter[str] = Counter()
    for row in audit.rows:
        counts[f"{row.kind}: {row.rule}"] += row.count
    rules = counts.most_common()
    canvas, axes = bar_figure(
        figure_class(),
        [rule for rule, _ in rules],
        [float(n) for _, n in rules],
        [str(n) for _, n in rules],
        longest=LABEL,
    )
    axes.set_xlabel("nodes", fontsize=9)
    canvas.suptitle(audit.composite.name, x=0.01, ha="left", fontsize=10, color=LIGHT.ink, **VERBATIM)
    return canvas
