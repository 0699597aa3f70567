"""Views of an audit."""

from apportion.core import View, register_view
from apportion.relevance import Audit
from apportion.report.audit._figure import audit_figure
from apportion.report.audit._html import audit_fragment, audit_page
from apportion.report.audit._terminal import audit_table as audit_table

register_view(Audit, View(terminal=audit_table, fragment=audit_fragment, page=audit_page, figure=audit_figure))
