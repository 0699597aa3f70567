"""Seeing an attribution: in the terminal, on a page, as a figure."""

from apportion.report._comparison import comparison_fragment as comparison_fragment
from apportion.report._comparison import comparison_page as comparison_page
from apportion.report._comparison_figure import comparison_figure as comparison_figure
from apportion.report._comparison_terminal import comparison_terminal as comparison_terminal
from apportion.report._comparison_terminal import comparison_text as comparison_text
from apportion.report._evaluation import evaluation_fragment as evaluation_fragment
from apportion.report._evaluation import evaluation_page as evaluation_page
from apportion.report._evaluation_figure import evaluation_figure as evaluation_figure
from apportion.report._evaluation_terminal import evaluation_terminal as evaluation_terminal
from apportion.report._evaluation_terminal import evaluation_text as evaluation_text
from apportion.report._figure import figure as figure
from apportion.report._generation import generation_html as generation_html
from apportion.report._generation import generation_terminal as generation_terminal
from apportion.report._generation import generation_text as generation_text
from apportion.report._html import html_fragment as html_fragment
from apportion.report._html import html_page as html_page
from apportion.report._page import page as page
from apportion.report._pairwise import pairwise_fragment as pairwise_fragment
from apportion.report._pairwise import pairwise_page as pairwise_page
from apportion.report._pairwise_figure import pairwise_figure as pairwise_figure
from apportion.report._pairwise_terminal import pairwise_terminal as pairwise_terminal
from apportion.report._pairwise_terminal import pairwise_text as pairwise_text
from apportion.report._recommendation import recommendation_terminal as recommendation_terminal
from apportion.report._recommendation import recommendation_text as recommendation_text
from apportion.report._terminal import terminal as terminal
from apportion.report._terminal import terminal_text as terminal_text
