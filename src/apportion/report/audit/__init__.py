"""Views of an audit."""

from apportion.report.audit._terminal import audit_table as audit_table
