"""Views of interactions."""

from apportion.core import View, register_view
from apportion.report.interactions._figure import interactions_figure
from apportion.report.interactions._html import interactions_fragment, interactions_page
from apportion.report.interactions._terminal import interactions_terminal
from apportion.report.kit import one_after_another
from apportion.results import Interactions

register_view(
    Interactions,
    one_after_another(
        View(
            terminal=interactions_terminal,
            fragment=interactions_fragment,
            page=interactions_page,
            figure=interactions_figure,
        )
    ),
)
