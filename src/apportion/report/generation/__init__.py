"""Views of a generation."""

from apportion.core import View, register_view
from apportion.report.generation._views import (
    generation_figure,
    generation_fragment,
    generation_page,
    generation_terminal,
)
from apportion.results import Generated

register_view(
    Generated,
    View(terminal=generation_terminal, fragment=generation_fragment, page=generation_page, figure=generation_figure),
)
