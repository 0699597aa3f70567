"""Summary: a run's numbers as means with the intervals that resampling its items gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from apportion.core import ApportionError, pandas_module
from apportion.results.evaluation._column import RANDOM, Column
from apportion.results.evaluation._numbers import COSTS, Numbers

if TYPE_CHECKING:
    import pandas

Only = Literal["all", "correct"]

#: How often the items are drawn again, and what share of the means the interval holds.
RESAMPLES, LEVEL = 2000, 0.95
#: Fewer methods have no rank correlation worth the name.
FEWEST = 3
# So many numbers are drawn at a time.
DRAWN = 2**22


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """Means with the interval in which another draw of items would have them.

    Args:
        n: How many items are in.
        mean: Their mean; NaN without items.
        low: Where the interval begins; NaN for fewer than two items.
        high: Where it ends.
    """

    n: Int[np.ndarray, " cell"]
    mean: Float[np.ndarray, " cell"]
    low: Float[np.ndarray, " cell"]
    high: Float[np.ndarray, " cell"]


def intervals(values: Float[np.ndarray, "item cell"], *, seed: int = 0) -> Intervals:
    """The mean of every cell over its items, and the percentile bootstrap's interval.

    Items are drawn again with replacement, the same ones for all cells that have the same items; NaN is left out.

    Args:
        values: By item.
        seed: Of the drawing.

    Source:
        Efron 1979, doi:10.1214/aos/1176344552; Efron and Tibshirani 1993, chapter 13.
    """
    there = ~np.isnan(values)
    n = there.sum(0)
    mean, low, high = (np.full(values.shape[1], np.nan) for _ in range(3))
    patterns: dict[bytes, list[int]] = {}
    for cell in range(values.shape[1]):
        patterns.setdefault(there[:, cell].tobytes(), []).append(cell)
    for cells in patterns.values():
        having = there[:, cells[0]]
        if not having.any():
            continue
        rows = np.ascontiguousarray(values[np.ix_(having, cells)].T)
        mean[cells] = rows.mean(1)
        if rows.shape[1] > 1:
            low[cells], high[cells] = _bootstrapped(rows, seed)
    return Intervals(n=n, mean=mean, low=low, high=high)


def _bootstrapped(
    rows: Float[np.ndarray, "cell item"], seed: int
) -> tuple[Float[np.ndarray, " cell"], Float[np.ndarray, " cell"]]:
    try:
        from scipy.stats import bootstrap
    except ImportError as error:
        raise ApportionError("intervals need scipy: pip install 'apportion[evaluate]'.") from error

    drawn = bootstrap(
        (rows,),
        np.mean,
        axis=-1,
        vectorized=True,
        method="percentile",
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        batch=max(1, DRAWN // rows.size),
        rng=np.random.default_rng(seed),
    )
    return drawn.confidence_interval.low, drawn.confidence_interval.high


def summary(
    numbers: Numbers, methods: Sequence[str], columns: Sequence[Column], *, by: str | None, only: Only, seed: int
) -> pandas.DataFrame:
    """See `Evaluation.summary`."""
    kept = items_kept(numbers, only)
    tables = []
    for value, members in _members(numbers, by).items():
        values = numbers.values[kept & members]
        shown = [k for k in range(len(columns)) if not np.isnan(numbers.values[kept][:, :, k]).all()]
        found = intervals(values[:, :, shown].reshape(len(values), len(methods) * len(shown)), seed=seed)
        labels: dict[str, Any] = {
            "method": np.repeat(methods, len(shown)),
            "measure": [columns[k].name for k in shown] * len(methods),
        }
        if by is not None:
            labels[by] = [value] * len(found.n)
        tables.append(_table(labels, found))
    return pandas_module().concat(tables, ignore_index=True)


def differences(
    numbers: Numbers,
    methods: Sequence[str],
    columns: Sequence[Column],
    measure: str,
    *,
    to: str | None,
    only: Only,
    seed: int,
) -> pandas.DataFrame:
    """See `Evaluation.differences`."""
    k = [column.name for column in columns].index(measure)
    values = numbers.values[items_kept(numbers, only)][:, :, k]
    chosen = methods.index(to) if to is not None else best(values, methods, columns[k])
    others = [i for i in range(len(methods)) if i != chosen]
    found = intervals(values[:, others] - values[:, [chosen]], seed=seed)
    table = _table({"method": [methods[i] for i in others]}, found)
    table.insert(1, "to", methods[chosen])
    return table.rename(columns={"mean": "difference"})


def best(values: Float[np.ndarray, "item method"], methods: Sequence[str], column: Column) -> int:
    """The method that a measure speaks for, by its mean; the first of equals.

    Raises:
        ApportionError: The measure speaks for none, or has no numbers.
    """
    if not column.better:
        raise ApportionError(
            f"neither high nor low values of {column.name!r} speak for a method; name one: to={methods[0]!r}."
        )
    means = means_of(values)
    if np.isnan(means).all():
        raise ApportionError(f"no method has a number for {column.name!r}.")
    return int(np.nanargmax(means if column.better == "higher" else -means))


def means_of(values: Float[np.ndarray, "item ..."]) -> np.ndarray:
    """Means without what is NaN; NaN where nothing is left."""
    there = ~np.isnan(values)
    n = there.sum(0)
    return np.where(n > 0, np.where(there, values, 0).sum(0) / np.maximum(n, 1), np.nan)


def curves(
    found: Mapping[tuple[str, str], Float[np.ndarray, "item step"]], kept: Bool[np.ndarray, " item"], *, seed: int
) -> pandas.DataFrame:
    """See `Evaluation.curves`."""
    pandas = pandas_module()
    tables = []
    for (method, curve), values in found.items():
        steps = np.linspace(0, 1, values.shape[1])
        table = _table({"method": method, "curve": curve, "step": steps}, intervals(values[kept], seed=seed))
        tables.append(table.drop(columns="n"))
    if not tables:
        return pandas.DataFrame(columns=["method", "curve", "step", "mean", "low", "high"])
    return pandas.concat(tables, ignore_index=True)


def costs(numbers: Numbers, methods: Sequence[str]) -> pandas.DataFrame:
    """See `Evaluation.costs`."""
    means = means_of(numbers.costs)
    table = pandas_module().DataFrame(means, columns=list(COSTS))
    table.insert(0, "method", list(methods))
    return table[table["method"] != RANDOM].reset_index(drop=True)


def refusals(numbers: Numbers, methods: Sequence[str]) -> pandas.DataFrame:
    """See `Evaluation.refusals`."""
    rows = [
        (method, reasons.total(), reasons.most_common(1)[0][0])
        for method, reasons in zip(methods, numbers.refused, strict=True)
        if reasons
    ]
    return pandas_module().DataFrame(rows, columns=["method", "items", "reason"])


def rank_correlations(
    numbers: Numbers, methods: Sequence[str], columns: Sequence[Column], *, only: Only
) -> pandas.DataFrame:
    """See `Evaluation.rank_correlations`."""
    values = numbers.values[items_kept(numbers, only)]
    means = means_of(values)
    signs = {"higher": 1.0, "lower": -1.0}
    table = pandas_module().DataFrame(
        {column.name: signs[column.better] * means[:, k] for k, column in enumerate(columns) if column.better},
        index=list(methods),
    )
    table = table[table.index != RANDOM].dropna(axis="columns", how="all")
    return table.corr(method="spearman", min_periods=FEWEST)


def items_kept(numbers: Numbers, only: Only) -> Bool[np.ndarray, " item"]:
    """The items that a table is about.

    Raises:
        ApportionError: There is none.
    """
    if only not in ("all", "correct"):
        raise ApportionError(f"only={only!r} is not known; use 'all' or 'correct'.")
    kept = numbers.right if only == "correct" else np.ones(len(numbers.correct), dtype=bool)
    if not kept.any():
        what = "that the model is known to get right" if only == "correct" else "in this run yet"
        raise ApportionError(f"there is no item {what}.")
    return kept


def _members(numbers: Numbers, by: str | None) -> dict[Any, Bool[np.ndarray, " item"]]:
    """By the group's value, in order, the items that have it; those that have none are in no group."""
    if by is None:
        return {None: np.ones(len(numbers.correct), dtype=bool)}
    of_items = numbers.group(by)
    values = sorted({v for v in of_items if v is not None}, key=lambda v: (isinstance(v, str), v))
    return {value: np.array([v == value for v in of_items], dtype=bool) for value in values}


def _table(labels: Mapping[str, Any], found: Intervals) -> pandas.DataFrame:
    return pandas_module().DataFrame({**labels, "n": found.n, "mean": found.mean, "low": found.low, "high": found.high})
