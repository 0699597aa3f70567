"""The page that fits an attribution: of one prediction, or of an answer's every token."""

from __future__ import annotations

from apportion.report.attribution._answer import of_answer
from apportion.report.attribution._answer_html import answer_page
from apportion.report.attribution._html import html_page
from apportion.results import Attribution


def page(attribution: Attribution) -> str:
    """The attribution as one HTML file that asks nothing of the network and follows the reader's light or dark."""
    return answer_page(attribution) if of_answer(attribution) else html_page(attribution)
