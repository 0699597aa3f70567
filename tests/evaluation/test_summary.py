"""The tables of an evaluation: means, intervals, differences, curves, costs, refusals, correlations."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas
import pytest
from scipy.stats import norm, spearmanr

import apportion as ap
from apportion.evaluation import Column, Evaluation, Row
from apportion.results.evaluation._rows import Rows
from apportion.results.evaluation._summary import intervals
from tests.checking import unchecked

COLUMNS = (
    Column(name="gain", better="higher", meaning="for tests"),
    Column(name="harm", better="lower", meaning="for tests"),
    Column(name="size", better="", meaning="for tests"),
    Column(name="fall", better="", meaning="for tests", curve=True),
)


def evaluation_of(folder, rows: dict[str, list[Row]], *, columns=COLUMNS, seed: int = 0) -> Evaluation:
    """An evaluation with these rows by method, item by item."""
    folder.mkdir(exist_ok=True)
    settings = {
        "methods": {method: {} for method in rows},
        "columns": [vars(column) for column in columns],
        "seed": seed,
    }
    (folder / "run.json").write_text(json.dumps(settings))
    writing = Rows(folder / "rows.jsonl", list(rows))
    for of_item in zip(*rows.values(), strict=True):
        writing.append(of_item)
    return Evaluation.load(folder)


def rows_of(method: str, gains: list[float | None], **more: list[Any]) -> list[Row]:
    """A method's rows; more fields by item, of which `harm` and `size` are values and `fall` is a curve."""
    rows = []
    for i, gain in enumerate(gains):
        fields = {name: values[i] for name, values in more.items()}
        values = {"gain": gain, **{name: fields.pop(name) for name in ("harm", "size") if name in fields}}
        curves = {name: fields.pop(name) for name in ("fall",) if name in fields}
        rows.append(Row(item=f"i{i}", method=method, values=values, curves=curves, **fields))
    return rows


def row_of(table: pandas.DataFrame, **labels: Any) -> pandas.Series:
    """The one row with these labels."""
    for name, value in labels.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


@pytest.fixture
def small(tmp_path):
    """Three methods on four items, of which the second has no number for `b`."""
    about = {
        "correct": [True, False, True, None],
        "groups": [{"attractors": 1}, {"attractors": 0}, {"attractors": 1}, {}],
    }
    return evaluation_of(
        tmp_path / "small",
        {
            "a": rows_of("a", [1.0, 2.0, 3.0, 6.0], harm=[0.0, 0.0, 1.0, 1.0], **about),
            "b": rows_of("b", [0.0, None, 2.5, 5.0], harm=[2.0, 2.0, 2.0, 2.0], **about),
            "random": rows_of("random", [0.5, 0.5, 0.5, 0.5], harm=[3.0, 1.0, 4.0, 8.0], **about),
        },
    )


def test_means_and_counts_are_those_by_hand(small):
    table = small.summary()
    assert list(table.columns) == ["method", "measure", "n", "mean", "low", "high"]
    assert [(r.method, r.measure, r.n, r.mean) for r in table.itertuples()] == [
        ("a", "gain", 4, 3.0),
        ("a", "harm", 4, 0.5),
        ("b", "gain", 3, 2.5),
        ("b", "harm", 4, 2.0),
        ("random", "gain", 4, 0.5),
        ("random", "harm", 4, 4.0),
    ]
    assert len(small) == 4
    assert small.accuracy == (2, 3)


def test_a_measure_without_any_number_is_left_out_and_a_method_without_one_is_not(tmp_path):
    found = evaluation_of(tmp_path / "one", {"a": rows_of("a", [None, None]), "b": rows_of("b", [1.0, 2.0])})
    table = found.summary()
    assert set(table.measure) == {"gain"}
    none = row_of(table, method="a")
    assert none.n == 0
    assert np.isnan([none["mean"], none.low, none.high]).all()
    assert row_of(found.differences("gain"), method="a").n == 0


def test_only_correct_keeps_the_items_the_model_gets_right(small, tmp_path):
    assert row_of(small.summary(only="correct"), method="a", measure="gain")["mean"] == 2.0
    assert row_of(small.differences("gain", only="correct"), method="b").difference == pytest.approx(-0.75)
    unknown = evaluation_of(tmp_path / "unknown", {"a": rows_of("a", [1.0]), "random": rows_of("random", [1.0])})
    with pytest.raises(ap.ApportionError, match="no item that the model is known to get right"):
        unknown.summary(only="correct")
    with unchecked(), pytest.raises(ap.ApportionError, match="only='wrong' is not known"):
        small.summary(only="wrong")


def test_an_unknown_group_is_refused(small):
    assert small.groups == ["attractors"]
    with pytest.raises(ap.ApportionError, match="no item says what its 'length' is; the groups are attractors"):
        small.summary(by="length")


def test_broken_down_means_are_those_of_the_groups_items(tmp_path):
    groups = [{}, *({"attractors": k} for k in (2, 0, 2, 10))]
    found = evaluation_of(tmp_path / "groups", {"a": rows_of("a", [99.0, 1.0, 2.0, 3.0, 6.0], groups=groups)})
    table = found.summary(by="attractors")
    assert [(r.attractors, r.n, r.mean) for r in table.itertuples()] == [(0, 1, 2.0), (2, 2, 2.0), (10, 1, 6.0)]


def test_items_that_are_in_no_group_are_left_out_and_a_group_may_have_no_correct_item(small):
    assert row_of(small.summary(by="attractors"), method="a", measure="gain", attractors=1).n == 2
    none = row_of(small.summary(by="attractors", only="correct"), method="a", measure="gain", attractors=0)
    assert none.n == 0
    assert math.isnan(none["mean"])


def test_intervals_are_those_of_the_normal_approximation_where_there_are_many_items():
    values = np.random.default_rng(5).exponential(2.0, (400, 3))
    found = intervals(values)
    half = norm.ppf(0.975) * values.std(0) / np.sqrt(len(values))
    np.testing.assert_allclose(found.mean, values.mean(0))
    np.testing.assert_allclose(found.low, values.mean(0) - half, atol=0.25 * half.max())
    np.testing.assert_allclose(found.high, values.mean(0) + half, atol=0.25 * half.max())


def test_intervals_are_those_of_resampling_by_hand():
    values = np.random.default_rng(6).normal(size=(12, 2)) ** 3
    found = intervals(values, seed=3)
    generator = np.random.default_rng(99)
    for cell in range(2):
        means = []
        for _ in range(4000):
            drawn = [values[generator.integers(12), cell] for _ in range(12)]
            means.append(sum(drawn) / 12)
        spread = np.std(means)
        assert found.low[cell] == pytest.approx(np.quantile(means, 0.025), abs=0.15 * spread)
        assert found.high[cell] == pytest.approx(np.quantile(means, 0.975), abs=0.15 * spread)


def test_an_interval_depends_on_its_own_items_and_the_seed_alone():
    values = np.random.default_rng(7).normal(size=(9, 4))
    values[2, 1] = np.nan
    together, again, other = intervals(values, seed=1), intervals(values, seed=1), intervals(values, seed=2)
    np.testing.assert_array_equal(together.low, again.low)
    assert (together.low != other.low).all()
    for cell in range(4):
        own = values[~np.isnan(values[:, cell]), cell]
        alone = intervals(own[:, None], seed=1)
        assert together.n[cell] == len(own)
        assert (together.mean[cell], together.low[cell], together.high[cell]) == pytest.approx(
            (alone.mean[0], alone.low[0], alone.high[0])
        )


def test_one_item_has_no_interval_and_equal_items_have_one_without_width():
    one = intervals(np.array([[2.0]]))
    assert (one.n[0], one.mean[0]) == (1, 2.0)
    assert math.isnan(one.low[0])
    assert math.isnan(one.high[0])
    equal = intervals(np.full((3, 1), 0.1))
    assert equal.low[0] == equal.mean[0] == equal.high[0]
    none = intervals(np.full((3, 1), np.nan))
    assert none.n[0] == 0
    assert math.isnan(none.mean[0])


def test_large_tables_are_drawn_in_parts(monkeypatch):
    values = np.random.default_rng(8).normal(size=(30, 3))
    whole = intervals(values)
    monkeypatch.setattr("apportion.results.evaluation._summary.DRAWN", 1000)
    np.testing.assert_allclose(intervals(values).low, whole.low)


def test_differences_are_paired_on_the_items_that_both_have(small):
    table = small.differences("gain")
    assert list(table.columns) == ["method", "to", "n", "difference", "low", "high"]
    assert set(table.to) == {"a"}
    b = row_of(table, method="b")
    assert (b.n, b.difference) == (3, pytest.approx((-1.0 - 0.5 - 1.0) / 3))
    assert -1.0 <= b.low < b.high <= -0.5  # although both methods vary from 0 to 6
    assert row_of(small.differences("gain", to="random"), method="a").difference == 2.5


def test_the_best_is_the_lowest_where_low_values_are_good(small):
    assert set(small.differences("harm").to) == {"a"}
    with pytest.raises(ap.ApportionError, match="there is no 'fall' in this run; it has gain, harm, size"):
        small.differences("fall")
    with pytest.raises(ap.ApportionError, match="there is no method 'c' in this run; it has a, b, random"):
        small.differences("gain", to="c")
    with pytest.raises(ap.ApportionError, match="neither high nor low values of 'size' speak for a method"):
        small.differences("size")


def test_curves_are_averaged_point_by_point(tmp_path):
    curves = [[4.0, 2.0, 0.0], [2.0, 2.0, None], []]
    found = evaluation_of(
        tmp_path / "curves", {"a": rows_of("a", [0.0] * 3, fall=curves), "b": rows_of("b", [0.0] * 3)}
    )
    table = found.curves()
    assert list(table.columns) == ["method", "curve", "step", "mean", "low", "high"]
    assert table.method.tolist() == ["a"] * 3
    assert table.step.tolist() == [0.0, 0.5, 1.0]
    assert table["mean"].tolist() == [3.0, 2.0, 0.0]
    assert table.low.tolist()[:2] == [2.0, 2.0]
    assert math.isnan(table.low[2])


def test_curves_of_fewer_points_are_drawn_at_as_many_as_the_longest(tmp_path):
    found = evaluation_of(tmp_path / "c", {"a": rows_of("a", [0.0] * 2, fall=[[4.0, 2.0, 0.0], [2.0, 0.0]])})
    assert found.curves()["mean"].tolist() == [3.0, 1.5, 0.0]
    plain = evaluation_of(tmp_path / "d", {"a": rows_of("a", [0.0])})
    assert plain.curves().empty


def test_costs_are_means_and_the_random_order_has_none(tmp_path):
    took = {"seconds": [1.0, 3.0], "forward": [2.0, 4.0], "backward": [1.0, 1.0]}
    found = evaluation_of(
        tmp_path / "costs", {"a": rows_of("a", [0.0, 0.0], **took), "random": rows_of("random", [0.0, 0.0])}
    )
    assert found.costs().to_dict("records") == [{"method": "a", "seconds": 2.0, "forward": 3.0, "backward": 1.0}]


def test_refusals_tell_the_most_frequent_reason(tmp_path):
    reasons = ["too long", None, "no gate", "no gate"]
    found = evaluation_of(
        tmp_path / "refused",
        {"a": rows_of("a", [None, 1.0, None, None], refused=reasons), "b": rows_of("b", [1.0] * 4)},
    )
    assert found.refusals().to_dict("records") == [{"method": "a", "items": 3, "reason": "no gate"}]


def test_rank_correlations_are_spearman_s_of_the_methods_means(tmp_path):
    generator = np.random.default_rng(9)
    gains, harms = generator.normal(size=(5, 3)), generator.normal(size=(5, 3))
    rows = {
        f"m{k}": rows_of(f"m{k}", gains[k].tolist(), harm=harms[k].tolist(), size=[1.0, 1.0, 1.0]) for k in range(5)
    }
    found = evaluation_of(tmp_path / "ranks", {**rows, "random": rows_of("random", [99.0] * 3, harm=[99.0] * 3)})
    table = found.rank_correlations()
    assert list(table.columns) == list(table.index) == ["gain", "harm"]  # neither side of `size` is the good one
    expected = spearmanr(gains.mean(1), -harms.mean(1)).statistic
    assert table.loc["gain", "harm"] == pytest.approx(expected)


def test_rank_correlations_of_two_methods_or_of_equal_means_are_not_defined(tmp_path, small):
    assert small.rank_correlations().isna().all(axis=None)
    rows = {f"m{k}": rows_of(f"m{k}", [float(k)], harm=[1.0]) for k in range(4)}
    assert math.isnan(evaluation_of(tmp_path / "equal", rows).rank_correlations().loc["gain", "harm"])


def test_rows_go_to_parquet_and_comma_separated_values(tmp_path, monkeypatch):
    monkeypatch.setattr("apportion.results.evaluation._tables.ROWS_AT_A_TIME", 3)
    groups = [{"n": 1, "kind": "PP"}, {"n": 2, "kind": 7}]
    found = evaluation_of(
        tmp_path / "rows",
        {
            "a": rows_of("a", [1.0, None], groups=groups, correct=[True, None], fall=[[1.0, None], []]),
            "b": rows_of("b", [2.0, 3.0], groups=groups, refused=[None, "too, long"]),
        },
    )
    found.to_parquet(tmp_path / "rows.parquet")
    found.to_csv(tmp_path / "rows.csv")
    read = pandas.read_parquet(tmp_path / "rows.parquet")
    assert read.item.tolist() == ["i0", "i0", "i1", "i1"]
    assert read.gain.tolist()[::3] == [1.0, 3.0]
    assert read.group_n.tolist() == [1, 1, 2, 2]
    assert read.group_kind.tolist() == ["PP", "PP", "7", "7"]
    assert read.fall[0][0] == 1.0
    assert math.isnan(read.fall[0][1])
    assert list(found.to_frame().columns) == list(read.columns)
    comma = pandas.read_csv(tmp_path / "rows.csv")
    assert list(comma.columns) == [name for name in read.columns if name != "fall"]
    assert comma.refused.tolist()[3] == "too, long"
    with pytest.raises(ap.ApportionError, match="there is no folder"):
        found.to_csv(tmp_path / "nowhere" / "rows.csv")


def test_a_run_without_items_says_so(tmp_path):
    empty = evaluation_of(tmp_path / "empty", {"a": []})
    assert len(empty) == 0
    with pytest.raises(ap.ApportionError, match="no item in this run yet"):
        empty.summary()
    assert empty.costs().seconds.isna().all()
    assert empty.refusals().empty
