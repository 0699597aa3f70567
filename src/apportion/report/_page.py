"""The page that fits an attribution: of one prediction, or of an answer's every token."""

from __future__ import annotations

from apportion._attribution import Attribution
from apportion.report._answer import of_answer
from apportion.report._answer_page import answer_page
from apportion.report._html import html_page


def page(attribution: Attribution) -> str:
    """The attribution as one HTML file that asks nothing of the network and follows the reader's light or dark."""
    return answer_page(attribution) if of_answer(attribution) else html_page(attribution)
