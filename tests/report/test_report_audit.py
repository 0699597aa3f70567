import io
from collections import Counter

import pytest
from rich.console import Console

from apportion.relevance import ATTNLRP, Audit, AuditRow
from apportion.report.audit._rows import gathered, merged
from apportion.report.audit._terminal import audit_table

NORM = ("Rsqrt", "statistic", "held constant")
ADD = ("Add", "linear", "derivative kept")


def text_of(audit, *, width=100, **options):
    console = Console(file=io.StringIO(), width=width)
    console.print(audit_table(audit, **options))
    return console.file.getvalue()


@pytest.fixture
def audit():
    rows = [AuditRow(f"model.layers.{i}.norm", *NORM, 1 + i) for i in range(12)]
    rows += [AuditRow(f"model.layers.{i}.mlp", *ADD, 1) for i in (0, 1, 2, 5, 11)]
    rows += [AuditRow("model.norm", *NORM, 1), AuditRow("", *ADD, 2), AuditRow("lm_head.0", *ADD, 3)]
    return Audit(ATTNLRP, tuple(rows), 90, 100, ())


def test_layers_treated_alike_become_one_row_with_all_their_nodes(audit):
    found = merged(audit.rows)
    assert AuditRow("model.layers.*.norm", *NORM, 78) in found
    assert AuditRow("model.layers.0-2,5,11.mlp", *ADD, 5) in found
    assert {row.module for row in found[2:]} == {"model.norm", "", "lm_head.0"}


def test_another_rule_in_some_layers_is_another_row():
    rows = [AuditRow(f"h.{i}", "Silu", "activation", "f(z)/z" if i < 3 else "derivative kept", 1) for i in range(5)]
    assert [(row.module, row.rule, row.count) for row in merged(rows)] == [
        ("h.0-2", "f(z)/z", 3),
        ("h.3-4", "derivative kept", 2),
    ]


def test_only_the_layer_s_number_is_merged():
    rows = [AuditRow(f"h.{i}.mlp.{k}", *ADD, 1) for i in range(2) for k in range(2)]
    assert [row.module for row in merged(rows)] == ["h.*.mlp.0", "h.*.mlp.1"]


def test_merging_and_gathering_lose_no_node(audit):
    def nodes(rows):
        return sum((Counter({(row.kind, row.rule): row.count}) for row in rows), Counter())

    assert nodes(gathered(merged(audit.rows))) == nodes(audit.rows)


def test_operations_of_one_module_under_one_rule_share_a_row():
    rows = [AuditRow("a", *ADD, 1), AuditRow("a", *NORM, 1), AuditRow("a", "View", *ADD[1:], 2)]
    assert gathered(rows) == [AuditRow("a", "Add, View", *ADD[1:], 3), AuditRow("a", *NORM, 1)]


def test_every_row_is_there_when_asked_for(audit):
    assert "model.layers.7.norm" not in text_of(audit)
    assert "model.layers.7.norm" in text_of(audit, every=True)
    assert "*" not in text_of(audit, every=True)


def test_the_verdict_comes_last(audit):
    assert text_of(audit).splitlines()[-1].startswith("✓ every promised rule was applied")


def test_broken_promises_are_counted_and_shown(audit):
    broken = Audit(ATTNLRP, audit.rows, 90, 100, tuple(f"no norm in layer {i}" for i in range(8)))
    assert "✗ 8 promises were broken:" in text_of(broken)
    assert "no norm in layer 4" in text_of(broken)
    assert "no norm in layer 5" not in text_of(broken)
    assert "… and 3 more" in text_of(broken)
    assert "no norm in layer 7" in text_of(broken, every=True)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal_or_than_can_be_read(audit, width):
    assert max(map(len, text_of(audit, width=width).splitlines())) <= min(width, 110)
