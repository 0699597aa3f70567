"""Seeing an attribution: in the terminal, on a page, as a figure."""

from apportion.report._figure import figure as figure
from apportion.report._html import html_fragment as html_fragment
from apportion.report._html import html_page as html_page
from apportion.report._terminal import terminal as terminal
from apportion.report._terminal import terminal_text as terminal_text
