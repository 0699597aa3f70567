"""Any other module, such as a model's body without a head."""

from __future__ import annotations

from apportion.models.kinds._kind import Kind
from apportion.models.kinds._registry import register_kind


@register_kind("other")
class Other(Kind):
    """Predicts nothing that has a name, unless its configuration names classes."""

    has_head = False
    has_classes = True
