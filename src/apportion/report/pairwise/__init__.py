"""Views of a similarity divided over pairs."""

from apportion.core import View, register_view
from apportion.report.pairwise._figure import pairwise_figure
from apportion.report.pairwise._html import pairwise_fragment, pairwise_page
from apportion.report.pairwise._terminal import pairwise_terminal
from apportion.results import Pairwise

register_view(
    Pairwise, View(terminal=pairwise_terminal, fragment=pairwise_fragment, page=pairwise_page, figure=pairwise_figure)
)
