"""The evaluation's page: which method each measure speaks for and how surely, curves, costs, groups, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from apportion.methods import METHODS
from apportion.report.evaluation._charts import LABELS, Chart, costs_chart, curve_charts, curves_of, method_charts
from apportion.report.evaluation._ranking import Entry, Ranking, listed, number, rankings
from apportion.report.kit import ON_DARK, ON_LIGHT, environment, look, own_scope, percent, step_of, surface, visible
from apportion.results.evaluation import RANDOM, Evaluation

# A group with more values than this is for `Evaluation.summary(by=…)`.
MAX_VALUES = 12
# What the settings say at other places of the page.
TOLD = ("model", "data", "columns", "methods", "measures")


def evaluation_page(evaluation: Evaluation, *, verdict: Sequence[str] = ()) -> str:
    """The evaluation as one HTML file that asks nothing of the network and follows the reader's light or dark."""
    return environment().get_template("evaluation_page.html").render(_context(evaluation, "apportion"), verdict=verdict)


def evaluation_fragment(evaluation: Evaluation, *, verdict: Sequence[str] = ()) -> str:
    """The evaluation for a notebook's output: needs no script, and its styles hold for itself alone."""
    return environment().get_template("evaluation.html").render(_context(evaluation, own_scope()), verdict=verdict)


@dataclass(frozen=True, kw_only=True)
class _Bar:
    """One method by one measure; places in percent of its track."""

    method: str
    kind: str
    left: float
    width: float
    whisker: tuple[float, float] | None
    text: str
    interval: str
    tip: str


@dataclass(frozen=True, kw_only=True)
class _Bars:
    """A measure's methods from best to worst; `zero` and `random` in percent of the track."""

    name: str
    direction: str
    meaning: str
    verdict: str
    bars: tuple[_Bar, ...]
    zero: float
    random: float | None


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """A mean with its interval; `kind` tells the best, and what cannot be told from it."""

    text: str
    interval: str
    n: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class _Table:
    """Methods × measures, or × the values of a group."""

    title: str
    headings: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, tuple[_Cell, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class _Panel:
    """What the page shows of one measure at a time: its cost, and its groups."""

    name: str
    cost: Chart | None
    groups: tuple[_Table, ...]


def _context(evaluation: Evaluation, scope: str) -> dict[str, Any]:
    found = rankings(evaluation)
    right, known = evaluation.accuracy
    judged = [ranking for ranking in found if ranking.column.better]
    panels = _panels(evaluation, judged)
    curves = curves_of(evaluation)
    looks = {method: look(place) for place, method in enumerate(evaluation.methods)}
    return {
        **surface(scope),
        "on_light": ON_LIGHT,
        "on_dark": ON_DARK,
        "panels": panels,
        "model": visible(str(evaluation.settings.get("model", ""))),
        "data": visible(str(evaluation.settings["data"])) if evaluation.settings.get("data") else "",
        "items": len(evaluation),
        "methods": [method for method in evaluation.methods if method != RANDOM],
        "right": right,
        "known": known,
        "accuracy": percent(right / known).lstrip("+") if known else "",
        "measures": [_bars(ranking) for ranking in found],
        "tables": _tables(evaluation, found, right, known),
        "costs": _costs(evaluation),
        "overlays": curve_charts(evaluation, curves),
        "singles": method_charts(curves, next((r for r in found if r.column.name == "abpc"), None)),
        "looks": looks,
        "labels": LABELS,
        "correlations": _correlations(evaluation) if found else [],
        "refusals": evaluation.refusals().to_dict("records"),
        "self_removing": self_removing(evaluation),
        "settings": _settings(evaluation),
        "random_label": RANDOM,
    }


def _bars(ranking: Ranking) -> _Bars:
    ends = [v for s in ranking.entries for v in (s.mean, *((s.low, s.high) if s.known else ()))]
    low, high = min(0.0, *ends), max(0.0, *ends)
    span = (high - low) or 1.0

    def at(value: float) -> float:
        return round(100 * (value - low) / span, 2)

    bars = []
    for entry in ranking.entries:
        left, right = sorted((at(0.0), at(entry.mean)))
        bars.append(
            _Bar(
                method=entry.method,
                kind=_kind(entry),
                left=left,
                width=round(right - left, 2),
                whisker=(at(entry.low), round(at(entry.high) - at(entry.low), 2)) if entry.known else None,
                text=ranking.text(entry.mean),
                interval=_interval(ranking, entry),
                tip=_tip(ranking, entry),
            )
        )
    column = ranking.column
    return _Bars(
        name=column.name,
        direction=f"{column.better} is better" if column.better else "",
        meaning=column.meaning,
        verdict=ranking.verdict,
        bars=tuple(bars),
        zero=at(0.0),
        random=None if ranking.random is None else at(ranking.random.mean),
    )


def _kind(entry: Entry) -> str:
    """What the page shows by a bar's strength: the best and its equals, what beats random, and what does not."""
    if entry.method == RANDOM:
        return "random"
    if entry.better_than_random is False:
        return "behind"
    return "best" if entry.known and entry.tied else "ahead"


def _interval(ranking: Ranking, entry: Entry) -> str:
    return f"[{ranking.text(entry.low)}, {ranking.text(entry.high)}]" if entry.known else ""


def _tip(ranking: Ranking, entry: Entry) -> str:
    lines = [entry.method, f"{number(entry.mean, 5)} {_interval(ranking, entry)}", _items(entry.n)]
    if entry.known and ranking.column.better:
        lines.append("best" if entry.best else "cannot be told from the best" if entry.tied else "")
        if entry.better_than_random is not None:
            lines.append(f"{'better' if entry.better_than_random else 'not told to be better'} than a random order")
    return "\n".join(line for line in lines if line)


def _items(count: int) -> str:
    return f"{count} item{'' if count == 1 else 's'}"


def _tables(evaluation: Evaluation, found: Sequence[Ranking], right: int, known: int) -> list[_Table]:
    """All items, and where the model errs on some also those that it gets right."""
    if not found:
        return []
    tables = [_table(evaluation, found, _items(len(evaluation)))]
    if 0 < right < len(evaluation) and known:
        only = rankings(evaluation, only="correct")
        tables.append(_table(evaluation, only, f"Only the {_items(right)} that the model gets right"))
    return tables


def _table(evaluation: Evaluation, found: Sequence[Ranking], title: str) -> _Table:
    usual = {ranking.column.name: max(s.n for s in ranking.entries) for ranking in found}
    rows = []
    for method in _by_first(evaluation, found):
        cells = []
        for ranking in found:
            entry = ranking.of(method)
            if entry is None:
                cells.append(_Cell(text="–", interval="", n="", kind=""))
                continue
            cells.append(
                _Cell(
                    text=ranking.text(entry.mean),
                    interval=_interval(ranking, entry),
                    n="" if entry.n == usual[ranking.column.name] else f"n = {entry.n}",
                    kind=_mark(entry),
                )
            )
        rows.append((method, tuple(cells)))
    arrows = {"higher": " ↑", "lower": " ↓", "": ""}
    headings = tuple((r.column.name + arrows[r.column.better], f"n = {usual[r.column.name]}") for r in found)
    return _Table(title=title, headings=headings, rows=tuple(rows))


def _by_first(evaluation: Evaluation, found: Sequence[Ranking]) -> list[str]:
    """The methods by the first measure; at the end those that have no number there."""
    first = [entry.method for entry in found[0].entries]
    rest = {entry.method for ranking in found for entry in ranking.entries} - set(first)
    return first + [method for method in evaluation.methods if method in rest]


def _mark(entry: Entry) -> str:
    if entry.best:
        return "best"
    return "level" if entry.known and entry.tied else ""


def _panels(evaluation: Evaluation, judged: Sequence[Ranking]) -> list[_Panel]:
    costs = {row["method"]: row["seconds"] for row in evaluation.costs().to_dict("records")}
    names = [name for name in evaluation.groups if judged and 1 < len(evaluation.values_of(name)) <= MAX_VALUES]
    few = {name: evaluation.summary(by=name) for name in names}
    return [
        _Panel(
            name=ranking.column.name,
            cost=costs_chart(ranking, costs),
            groups=tuple(
                grouped
                for name, table in few.items()
                if (grouped := _grouped(ranking, name, table[table["measure"] == ranking.column.name])) is not None
            ),
        )
        for ranking in judged
    ]


def _grouped(ranking: Ranking, name: str, table: Any) -> _Table | None:
    """A measure's means by the values of a group, the methods in the order of all items."""
    table = table[table["n"] > 0]
    if table.empty:
        return None
    values = list(dict.fromkeys(table[name]))
    cells = {(row["method"], row[name]): row for row in table.to_dict("records")}
    better = max if ranking.column.better == "higher" else min
    best = {value: better(table[table[name] == value]["mean"]) for value in values}
    rows = []
    for entry in ranking.entries:
        of_method = []
        for value in values:
            row = cells.get((entry.method, value))
            if row is None:
                of_method.append(_Cell(text="–", interval="", n="", kind=""))
                continue
            one = Entry(**{key: row[key] for key in ("method", "n", "mean", "low", "high")})
            kind = "best" if row["mean"] == best[value] else ""
            of_method.append(_Cell(text=ranking.text(one.mean), interval=_interval(ranking, one), n="", kind=kind))
        rows.append((entry.method, tuple(of_method)))
    sizes = {value: max(table[table[name] == value]["n"]) for value in values}
    headings = tuple((visible(str(value)), f"n = {sizes[value]}") for value in values)
    return _Table(title=visible(name), headings=headings, rows=tuple(rows))


def _costs(evaluation: Evaluation) -> dict[str, tuple[str, str, str]]:
    """By method, what it takes for an item: seconds, forward and backward passes."""
    return {
        row["method"]: (
            f"{row['seconds']:.2g}" if row["seconds"] < 1 else number(row["seconds"], 1),
            number(row["forward"], 0 if row["forward"] % 1 == 0 else 1),
            number(row["backward"], 0 if row["backward"] % 1 == 0 else 1),
        )
        for row in evaluation.costs().to_dict("records")
    }


def _correlations(evaluation: Evaluation) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each measure its correlation with every measure: what is shown and its step on the colour scale."""
    table = evaluation.rank_correlations()
    if len(table) < 2 or bool(table.isna().all(axis=None)):
        return []
    return [
        (name, [(number(value, 2), step_of(0 if value != value else value)) for value in row])
        for name, row in zip(table.index, table.to_numpy().tolist(), strict=True)
    ]


def self_removing(evaluation: Evaluation) -> str:
    """The methods that remove tokens themselves; empty where there are none."""
    names = {label: options.get("name") for label, options in evaluation.settings["methods"].items()}
    return listed([m for m, n in names.items() if n in METHODS and METHODS[n].about.family == "perturbation"])


def _settings(evaluation: Evaluation) -> list[tuple[str, str]]:
    """How the run was made, line by line."""
    settings = evaluation.settings
    lines = [(name, _options(value)) for name, value in settings.items() if name not in TOLD]
    lines += [(f"measure {name}", _options(options)) for name, options in settings["measures"].items()]
    for label, options in settings["methods"].items():
        own = {name: value for name, value in options.items() if (name, value) != ("name", label)}
        lines.append((f"method {label}", _options(own)))
    return [(visible(name), visible(value)) for name, value in lines]


def _options(value: Any) -> str:
    """A setting, or options by name and what they hold in turn."""
    if not isinstance(value, dict):
        return str(value)
    shown = (f"{name} = {_nested(one)}" for name, one in value.items())
    return ", ".join(shown) or "–"


def _nested(value: Any) -> str:
    return f"({_options(value)})" if isinstance(value, dict) else str(value)
