"""Views of a comparison."""

from apportion.core import View, register_view
from apportion.report.comparison._figure import comparison_figure
from apportion.report.comparison._html import comparison_fragment, comparison_page
from apportion.report.comparison._terminal import comparison_terminal
from apportion.results import Comparison

register_view(
    Comparison,
    View(terminal=comparison_terminal, fragment=comparison_fragment, page=comparison_page, figure=comparison_figure),
)
