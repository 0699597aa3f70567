"""The recommendation's page and figure: the evaluation's, with the verdict in front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apportion.report.evaluation._figure import evaluation_figure
from apportion.report.evaluation._html import evaluation_fragment, evaluation_page
from apportion.report.kit import visible
from apportion.results.evaluation import Recommendation

if TYPE_CHECKING:
    import matplotlib.figure


def recommendation_page(found: Recommendation) -> str:
    """The evaluation's page with the verdict in front."""
    return evaluation_page(found.evaluation, verdict=_lines(found))


def recommendation_fragment(found: Recommendation) -> str:
    """The evaluation's output in a notebook with the verdict in front."""
    return evaluation_fragment(found.evaluation, verdict=_lines(found))


def recommendation_figure(
    found: Recommendation, shown: str | None = None, *, measure: str | None = None
) -> matplotlib.figure.Figure:
    """A picture of the evaluation; by default the bars of the measure that decides."""
    return evaluation_figure(found.evaluation, shown or found.measure.name, measure=measure)


def _lines(found: Recommendation) -> list[str]:
    return [visible(line) for line in found.verdict.splitlines()]
