"""The audit: which rule each operation of the model followed, and whether every promised rule was applied."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apportion.core import RuleNotApplied, Saved, Shown, pandas_module
from apportion.relevance._composite import Composite
from apportion.relevance._graph import Places
from apportion.relevance._plan import Plan
from apportion.relevance._treatment import Treatment

if TYPE_CHECKING:
    import pandas

#: For each option that promises a rule: the classes of modules concerned, and the accepted kinds of their operations.
_PROMISES: tuple[tuple[str, re.Pattern[str], frozenset[str]], ...] = (
    ("attention", re.compile(r"Attention\d*$"), frozenset({"attention", "product", "gate", "softmax"})),
    (
        "norm",
        re.compile(r"(?<!Batch)(?<!Weight)(?<!No)Norm(Gated|\dd|\dP|Plus1P)?$"),
        frozenset({"norm", "statistic", "quotient"}),
    ),
    (
        "activation",
        re.compile(r"SiLU|GELU|Mish|Tanh|Sigmoid|Softplus|Hardswish|SELU|^ELU|CELU|xIELU"),
        frozenset({"activation", "gate", "product", "quotient"}),
    ),
)


@dataclass(frozen=True)
class AuditRow:
    """Nodes of one operation in one module that follow the same rule."""

    module: str
    operation: str
    kind: str
    rule: str
    count: int


@dataclass(frozen=True, repr=False)
class Audit(Shown, Saved):
    """A composite's rules as they were applied to a model.

    Args:
        composite: The promised rules.
        rows: The nodes that relevance reaches, grouped by module, operation and rule.
        reached: The number of nodes that relevance reaches.
        recorded: The number of nodes of the graph.
        missing: Descriptions of the rules that were not applied; empty if the audit passes.
    """

    composite: Composite
    rows: tuple[AuditRow, ...]
    reached: int
    recorded: int
    missing: tuple[str, ...]

    @classmethod
    def of(cls, plan: Plan, composite: Composite, places: Places) -> Audit:
        """Count the nodes of a plan and check its promises."""
        counts: Counter[tuple[str, str, str, str]] = Counter()
        for i, node in enumerate(plan.graph.nodes):
            name = plan.graph.names[i]
            if name == "AccumulateGrad":
                continue
            treatment = plan.treatments[i] or Treatment.keep()
            if plan.needed[i] or not treatment.carries:
                counts[places.path_of(node), name, treatment.kind, treatment.rule] += 1
        rows = tuple(AuditRow(*key, count) for key, count in counts.items())
        missing = (*plan.missing, *_broken_promises(plan, composite, places))
        return cls(composite, rows, sum(plan.needed), len(plan.graph.nodes), missing)

    def check(self) -> Audit:
        """Return itself, or raise if a promised rule was not applied.

        Raises:
            RuleNotApplied: An attention, norm or activation (by the class of its module) carries relevance, but no
                operation in it was treated as such; or a rule for residual sums, for maps with weights or for a
                softmax's temperature was applied nowhere.
        """
        if self.missing:
            more = f" (and {len(self.missing) - 3} more)" if len(self.missing) > 3 else ""
            raise RuleNotApplied("; ".join(self.missing[:3]) + more + ". The audit's rows show the rules applied.")
        return self

    def to_frame(self) -> pandas.DataFrame:
        """A pandas table of the rows: module, operation, kind, rule and number of nodes."""
        return pandas_module().DataFrame([vars(row) for row in self.rows])


def _broken_promises(plan: Plan, composite: Composite, places: Places) -> list[str]:
    """Descriptions of attentions, norms and activations (by class) without an operation treated as such."""
    kinds: dict[int, set[str]] = {}
    carrying: set[int] = set()
    for i, node in enumerate(plan.graph.nodes):
        treatment = plan.treatments[i]
        visit = places.visit_of(node)
        while visit is not None and visit >= 0:
            if treatment is not None:
                kinds.setdefault(visit, set()).add(treatment.kind)
            if plan.needed[i]:
                carrying.add(visit)
            visit = places.visits[visit].parent
    broken = []
    for number in sorted(carrying):
        path, name = places.visits[number].path, places.visits[number].class_name
        for option, classes, accepted in _PROMISES:
            rule = getattr(composite.at(path), option)
            if rule != "gradient" and classes.search(name) and not kinds.get(number, set()) & accepted:
                promise = f"{composite.name} promises {option} {rule}"
                broken.append(f"{promise}, but no operation of {path} ({name}) was treated as one")
    return broken
