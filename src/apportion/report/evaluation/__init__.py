"""Views of an evaluation and of a recommendation."""

from apportion.core import View, register_view
from apportion.report.evaluation._figure import evaluation_figure
from apportion.report.evaluation._html import evaluation_fragment, evaluation_page
from apportion.report.evaluation._recommendation import (
    recommendation_figure,
    recommendation_fragment,
    recommendation_page,
)
from apportion.report.evaluation._recommendation_terminal import recommendation_terminal
from apportion.report.evaluation._terminal import evaluation_terminal
from apportion.results.evaluation import Evaluation, Recommendation

register_view(
    Evaluation,
    View(terminal=evaluation_terminal, fragment=evaluation_fragment, page=evaluation_page, figure=evaluation_figure),
)
register_view(
    Recommendation,
    View(
        terminal=recommendation_terminal,
        fragment=recommendation_fragment,
        page=recommendation_page,
        figure=recommendation_figure,
    ),
)
