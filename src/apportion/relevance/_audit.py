"""The audit: what every node of a model's graph was taken for, and whether every promised rule was applied."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apportion.core import RuleNotApplied, Saved, Shown, pandas_module
from apportion.relevance._composite import Composite
from apportion.relevance._graph import Places
from apportion.relevance._plan import Plan

if TYPE_CHECKING:
    import pandas

#: For each promise: what makes it, the module classes it is about, and what their operations may be taken for.
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
    """Nodes of one operation in one module that were treated alike."""

    module: str
    operation: str
    kind: str
    rule: str
    count: int


@dataclass(frozen=True, repr=False)
class Audit(Shown, Saved):
    """A composite's rules as they were applied to a model.

    Args:
        composite: The rules that were promised.
        rows: The nodes that relevance reaches, grouped by module, operation and rule.
        reached: How many nodes relevance reaches.
        recorded: How many nodes the graph has.
        missing: Promises that were not kept, in words; empty when the audit passes.
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
            treatment = plan.treatments[i]
            held = treatment is not None and not treatment.carries
            if not plan.needed[i] and not held:
                continue
            kind, rule = ("linear", "derivative kept") if treatment is None else (treatment.kind, treatment.rule)
            counts[places.path_of(node), name, kind, rule] += 1
        rows = tuple(AuditRow(*key, count) for key, count in counts.items())
        missing = (*plan.missing, *_broken_promises(plan, composite, places))
        return cls(composite, rows, sum(plan.needed), len(plan.graph.nodes), missing)

    def check(self) -> Audit:
        """Return itself, or raise when a promised rule was not applied.

        Raises:
            RuleNotApplied: A module that by its class is an attention, a norm or an activation ran, carries
                relevance, and no operation in it was treated as such; or a rule for residual sums, for maps with
                weights or for a softmax's temperature applies nowhere.
        """
        if self.missing:
            more = f" (and {len(self.missing) - 3} more)" if len(self.missing) > 3 else ""
            raise RuleNotApplied("; ".join(self.missing[:3]) + more + ". The audit's rows show what it was taken for.")
        return self

    def to_frame(self) -> pandas.DataFrame:
        """A pandas table of the rows: module, operation, what it was taken for, its rule, and how many nodes."""
        return pandas_module().DataFrame([vars(row) for row in self.rows])


def _broken_promises(plan: Plan, composite: Composite, places: Places) -> list[str]:
    """Modules that by their class are an attention, a norm or an activation, without an operation treated as one."""
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
        visit_ = places.visits[number]
        for promise, classes, accepted in _PROMISES:
            rule = getattr(composite.at(visit_.path), promise)
            if rule != "gradient" and classes.search(visit_.class_name) and not kinds.get(number, set()) & accepted:
                broken.append(
                    f"{composite.name} promises {promise} {rule}, but no operation of {visit_.path} "
                    f"({visit_.class_name}) was taken for one"
                )
    return broken
