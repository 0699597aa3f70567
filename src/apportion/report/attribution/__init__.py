"""Views of an attribution."""

from apportion.core import View, register_view
from apportion.report.attribution._figure import figure
from apportion.report.attribution._html import html_fragment as html_fragment
from apportion.report.attribution._page import page
from apportion.report.attribution._terminal import terminal as terminal
from apportion.results import Attribution

register_view(Attribution, View(terminal=terminal, fragment=html_fragment, page=page, figure=figure))
