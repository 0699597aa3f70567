"""Views of a ledger."""

from apportion.core import Ledger, View, register_view
from apportion.report.ledger._views import ledger_figure, ledger_fragment, ledger_page, ledger_terminal

register_view(Ledger, View(terminal=ledger_terminal, fragment=ledger_fragment, page=ledger_page, figure=ledger_figure))
