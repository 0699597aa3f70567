"""What the speed benchmark measured, and how it reads: the goals, the tables and the Markdown."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median, quantiles

from _measure import Memory


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Size of the problem."""

    n: int
    vocab: int

    def __str__(self) -> str:
        return f"n = {self.n}, vocabulary {self.vocab:,}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One case in one setting.

    Args:
        case: Its name.
        unit: The case whose median is this one's 1.00: the plain gradient in the same environment.
        seconds: One entry per round.
        memory: Peak memory; None where it was not measured.
    """

    case: str
    unit: str
    seconds: list[float]
    memory: Memory | None = None

    @property
    def median(self) -> float:
        """Median of the rounds, in seconds."""
        return median(self.seconds)


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A ratio that the design asks for, and what was measured."""

    what: str
    measured: float
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool:
        """Whether the measured ratio lies within the goal."""
        return (self.at_most is None or self.measured <= self.at_most) and (
            self.at_least is None or self.measured >= self.at_least
        )

    @property
    def wanted(self) -> str:
        """The goal as a reader sees it."""
        return f"≤ {self.at_most}" if self.at_most is not None else f"≥ {self.at_least}"


@dataclass(frozen=True, kw_only=True)
class Table:
    """All cases in one setting.

    Args:
        setting: Size of the problem.
        rows: By name of the case.
        differences: Distance of apportion's relevance from LXT's relative to its length, by recipe.
    """

    setting: Setting
    rows: dict[str, Row]
    differences: dict[str, float] = field(default_factory=dict)

    def time_ratio(self, case: str, unit: str) -> float:
        """Ratio of two cases' median times."""
        return self.rows[case].median / self.rows[unit].median

    def spread(self, row: Row) -> tuple[float, float]:
        """Quartiles of the row's time against its unit's in the same round: how far to trust the ratio."""
        ratios = [mine / unit for mine, unit in zip(row.seconds, self.rows[row.unit].seconds, strict=True)]
        low, _, high = quantiles(ratios, method="inclusive") if len(ratios) > 1 else ratios * 3
        return low, high

    def memory_ratio(self, case: str, unit: str) -> float | None:
        """Ratio of two cases' peak tensor memory."""
        mine, other = self.rows[case].memory, self.rows[unit].memory
        return mine.tensors / other.tensors if mine and other else None

    def goals(self) -> Iterator[Goal]:
        """The ratios that DESIGN.md asks for and this table can answer."""
        rows = self.rows
        yield Goal(what="attnlrp : gradient, time", measured=self.time_ratio("attnlrp", "gradient"), at_most=1.02)
        yield Goal(what="cp-lrp : gradient, time", measured=self.time_ratio("cp-lrp", "gradient"), at_most=0.85)
        peak = self.memory_ratio("attnlrp", "gradient")
        if peak is not None:
            yield Goal(what="attnlrp : gradient, peak memory", measured=peak, at_most=1.05)
        both = self.time_ratio("attnlrp + cp-lrp", "attnlrp")
        yield Goal(what="attnlrp + cp-lrp : attnlrp, time", measured=both, at_most=1.7)
        for recipe in ("attnlrp", "cp-lrp"):
            if f"lxt {recipe}" not in rows:
                continue
            faster = self.time_ratio(f"lxt {recipe}", recipe)
            yield Goal(what=f"lxt {recipe} : {recipe}, time", measured=faster, at_least=1.25)
            peak = self.memory_ratio(f"lxt {recipe}", recipe)
            if peak is not None:
                yield Goal(what=f"lxt {recipe} : {recipe}, peak memory", measured=peak, at_least=1.0)
            if recipe in self.differences:
                yield Goal(
                    what=f"lxt {recipe} - {recipe}, relative distance of the values",
                    measured=self.differences[recipe],
                    at_most=1e-5,
                )

    def headings(self) -> list[str]:
        """Headings of `cells`."""
        return ["case", "seconds", "× gradient", "quartiles", "peak MiB", "× gradient", "resident MiB"]

    def cells(self) -> Iterator[list[str]]:
        """One line per case, as a reader sees it."""
        for row in self.rows.values():
            low, high = self.spread(row)
            peak = self.memory_ratio(row.case, row.unit)
            yield [
                row.case,
                f"{row.median:.3f}",
                f"{self.time_ratio(row.case, row.unit):.3f}",
                f"{low:.2f}–{high:.2f}",
                _mebibytes(row.memory and row.memory.tensors),
                "" if peak is None else f"{peak:.3f}",
                _mebibytes(row.memory and row.memory.resident),
            ]


def _mebibytes(size: int | None) -> str:
    return "" if size is None else f"{size / 2**20:.0f}"


def markdown(tables: list[Table], machine: dict[str, str | int | float], notes: list[str]) -> str:
    """The results as a page."""
    lines = ["# Speed and memory", "", "Written by `benchmarks/speed.py`; its docstring says what each row is.", ""]
    lines += [f"- {name}: {value}" for name, value in machine.items()]
    lines += [f"- {note}" for note in notes]
    for table in tables:
        lines += ["", f"## {table.setting}", ""]
        lines += _grid(table.headings(), table.cells())
        lines += ["", *_grid(["ratio", "measured", "goal", "met"], goal_cells(table))]
    return "\n".join(lines) + "\n"


def summary(tables: list[Table], machine: dict[str, str | int | float]) -> str:
    """The table of docs/speed.md: time and memory in units of the plain input gradient, and LXT's time in ours."""
    columns = {
        "attnlrp": lambda t: t.time_ratio("attnlrp", "gradient"),
        "cp-lrp": lambda t: t.time_ratio("cp-lrp", "gradient"),
        "both at once : one": lambda t: t.time_ratio("attnlrp + cp-lrp", "attnlrp"),
        "peak memory": lambda t: t.memory_ratio("attnlrp", "gradient"),
        "LXT attnlrp : ours": lambda t: _against(t, "lxt attnlrp", "attnlrp"),
        "LXT cp-lrp : ours": lambda t: _against(t, "lxt cp-lrp", "cp-lrp"),
    }
    shown = {name: column for name, column in columns.items() if any(column(table) is not None for table in tables)}
    lines = [
        [str(table.setting), *(f"{column(table):.2f} ×" if column(table) else "" for column in shown.values())]
        for table in tables
    ]
    note = (
        "Time (and peak memory, where measured) of `explain`, ledger included, in units of the plain input gradient of "
        "the same frozen model; and the time of LXT 2.1 as its README uses it, in units of ours. Medians on "
        f"{machine['cores']} cores, {machine['date']}; all numbers: "
        "[benchmarks/results/speed.md](../benchmarks/results/speed.md)."
    )
    return "\n".join([*_grid(["12-layer Llama", *shown], iter(lines)), "", note])


def _against(table: Table, case: str, unit: str) -> float | None:
    return table.time_ratio(case, unit) if case in table.rows else None


def goal_cells(table: Table) -> Iterator[list[str]]:
    """One line per goal, as a reader sees it."""
    for goal in table.goals():
        yield [goal.what, f"{goal.measured:.3g}", goal.wanted, "yes" if goal.met else "no"]


def _grid(headings: list[str], rows: Iterator[list[str]]) -> list[str]:
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 1), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
