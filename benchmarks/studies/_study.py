"""A study: a run that is kept, and the page whose tables it writes."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.figure
import pandas

import apportion as ap
from apportion.evaluation import Evaluation, Item
from benchmarks._pages import write_block as write_block_of

ROOT = Path(__file__).parents[2]
#: Rows are kept here, so that a study that was interrupted goes on where it was; only their summaries are committed.
RUNS = ROOT / "benchmarks/results/studies"
PAGES = ROOT / "docs/studies"


def run(
    name: str,
    explainer: ap.Explainer,
    items: Iterable[Item],
    *,
    methods: Any,
    measures: Sequence[Any],
    limit: int | None = None,
    masker: str = "auto",
) -> Evaluation:
    """Measure, and keep a summary beside the rows."""
    found = explainer.evaluate(items, methods=methods, measures=measures, path=RUNS / name, limit=limit, masker=masker)
    found.summary().to_csv(RUNS / f"{name}.csv", index=False, float_format="%.5g")
    return found


def write_block(page: str, name: str, text: str) -> None:
    """Replace a block of a study's page."""
    write_block_of(PAGES / f"{page}.md", name, text)


def save(figure: matplotlib.figure.Figure, name: str) -> None:
    """A picture of a page."""
    figure.savefig(PAGES / f"{name}.png", dpi=150, bbox_inches="tight", metadata={"Software": None})


def table(
    summary: pandas.DataFrame,
    measures: Mapping[str, str],
    *,
    by: str = "measure",
    order: str | None = None,
    ascending: bool = False,
    digits: int = 2,
) -> str:
    """A Markdown table: a row for each method, best first, a column for each measure (or group), mean and interval.

    Args:
        summary: As `Evaluation.summary` gives it.
        measures: Columns to show, with their headings.
        by: What the columns are.
        order: The column that rows are ordered by; by default the first.
        ascending: Whether small values come first.
        digits: After the decimal point.
    """
    chosen = order or next(iter(measures))
    first = summary[summary[by].astype(str) == str(chosen)].sort_values("mean", ascending=ascending)
    methods = [*first.method, *(m for m in summary.method.unique() if m not in set(first.method))]
    lines = [f"| method | {' | '.join(measures.values())} |", f"|---|{'---:|' * len(measures)}"]
    for method in methods:
        mine = summary[summary.method == method].set_index(summary[summary.method == method][by].astype(str))
        cells = [_cell(mine.loc[str(m)], digits) if str(m) in mine.index else "–" for m in measures]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: Any, digits: int) -> str:
    if row["mean"] != row["mean"]:
        return "–"
    shown = f"{row['mean']:.{digits}f}"
    if row["low"] != row["low"]:
        return shown
    return f"{shown} [{row['low']:.{digits}f}, {row['high']:.{digits}f}]".replace("-", "−")
