"""Views of the attributions of several prompts."""

from apportion.core import View, register_view
from apportion.report.attributions._views import figure, fragment, page, terminal
from apportion.results import Attributions

register_view(Attributions, View(terminal=terminal, fragment=fragment, page=page, figure=figure))
