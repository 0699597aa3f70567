"""Seeing results: in the terminal, in a notebook, on a page, as a figure.

Each folder registers the views of its results; a result finds its own by its type, so that nothing here need be called.
"""

from apportion.core import View as View
from apportion.core import register_view as register_view
from apportion.report import attribution as attribution
from apportion.report import attributions as attributions
from apportion.report import audit as audit
from apportion.report import comparison as comparison
from apportion.report import evaluation as evaluation
from apportion.report import generation as generation
from apportion.report import interactions as interactions
from apportion.report import ledger as ledger
from apportion.report import pairwise as pairwise
