"""The audit's rows, with alike layers as one and the operations of one rule together."""

from __future__ import annotations

from collections.abc import Iterable

from apportion.relevance import AuditRow


def merged(rows: Iterable[AuditRow]) -> list[AuditRow]:
    """Rows that differ in the layer alone as one, with the sum of their nodes.

    The layer is the first number in a module's path. In its place stands `*` for all layers that the audit has there,
    or those that are meant, such as `0-5,7`.
    """
    layers: dict[str, set[int]] = {}
    groups: dict[tuple[tuple[str, str], str, str, str], tuple[set[int], int]] = {}
    for row in rows:
        before, layer, after = _split(row.module)
        numbers, count = groups.get(key := ((before, after), row.operation, row.kind, row.rule), (set(), 0))
        present = set() if layer is None else {layer}
        groups[key] = (numbers | present, count + row.count)
        layers[before] = layers.get(before, set()) | present
    found = []
    for ((before, after), operation, kind, rule), (numbers, count) in groups.items():
        module = ".".join(part for part in (before, _named(numbers, layers[before]), after) if part)
        found.append(AuditRow(module, operation, kind, rule, count))
    return found


def gathered(rows: Iterable[AuditRow]) -> list[AuditRow]:
    """Rows of one module that follow one rule as one, with the names of their operations in a list."""
    groups: dict[tuple[str, str, str], tuple[list[str], int]] = {}
    for row in rows:
        names, count = groups.get(key := (row.module, row.kind, row.rule), ([], 0))
        groups[key] = ([*names, row.operation], count + row.count)
    return [AuditRow(m, ", ".join(names), k, r, count) for (m, k, r), (names, count) in groups.items()]


def _split(path: str) -> tuple[str, int | None, str]:
    """A module's path before, at and after its first number."""
    parts = path.split(".")
    at = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    return (path, None, "") if at is None else (".".join(parts[:at]), int(parts[at]), ".".join(parts[at + 1 :]))


def _named(numbers: set[int], every: set[int]) -> str:
    """Some numbers as `*` when they are all of several, else as ranges."""
    if numbers == every and len(every) > 1:
        return "*"
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
