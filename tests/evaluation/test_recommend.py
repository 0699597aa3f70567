"""Recommendations from tables made by hand: who is best, how surely, and what must be said beside it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from apportion import ApportionError, LeaveOneOut
from apportion.evaluation import MEASURES, Evaluation, Row, recommendation_of
from apportion.evaluation._recommend import CANDIDATES, _how_often_first
from apportion.methods import as_method
from apportion.results.evaluation._rows import Rows
from tests.evaluation.played import explainer
from tests.tiny import InFloat64

TEXTS = [
    "The man who owns the dogs",
    "the cat and the dog of",
    "The old man sees",
    "The sad cat is",
    "the new dog and the old cat",
    "The man sees the man who is",
]
ABPC = MEASURES["perturbation-curves"].columns[0]


def found(folder, values, *, measures=("perturbation-curves",), by=ABPC, given=None, refused=None, seconds=None):
    """A recommendation from the values of each method by column, one a text."""
    columns = [column for name in measures for column in MEASURES[name].columns]
    folder.mkdir(exist_ok=True)
    settings = {
        "model": "by hand",
        "methods": {method: {} for method in values},
        "measures": {name: {} for name in measures},
        "columns": [asdict(column) for column in columns],
        "seed": 0,
    }
    (folder / "run.json").write_text(json.dumps(settings))
    rows = Rows(folder / "rows.jsonl", list(values))
    texts = len(next(iter(next(iter(values.values())).values())))
    for i in range(texts):
        rows.append([_row(method, i, of_method, refused or {}, seconds or {}) for method, of_method in values.items()])
    return recommendation_of(Evaluation.load(folder), by, given or {})


def _row(method, i, of_method, refused, seconds):
    if i in refused.get(method, ()):
        return Row(item=f"i{i}", method=method, refused="it does not fit")
    values = {name: None if math.isnan(of_text[i]) else of_text[i] for name, of_text in of_method.items()}
    cost = {"seconds": seconds.get(method, 1.0), "forward": 1.0, "backward": 1.0}
    return Row(item=f"i{i}", method=method, values=values, **cost)


def abpc(**by_method):
    return {name.replace("_", "-"): {"abpc": values} for name, values in by_method.items()}


def test_the_best_mean_is_recommended_with_its_numbers(tmp_path):
    values = abpc(
        gradient=[1.0, 2.0, 3.0, 2.0, 1.0],
        attnlrp=[4.0, 5.0, 7.0, 6.0, 4.0],
        gim=[3.0, 6.0, 7.0, 5.0, 4.5],
        random=[0.1, -0.1, 0.2, -0.2, 0.0],
    )
    one = found(tmp_path, values)
    assert one.method == "attnlrp"
    assert [c.method for c in one.candidates] == ["attnlrp", "gim", "gradient"]
    assert [c.mean for c in one.candidates] == pytest.approx([5.2, 5.1, 1.8])
    assert [c.behind for c in one.candidates] == pytest.approx([0, 0.1, 3.4])
    assert [c.tied for c in one.candidates] == [True, True, False]
    assert [c.method for c in one.tied] == ["gim"]
    assert one.candidates[2].behind_low > 2.9
    assert one.best.above_random == pytest.approx(5.2)
    assert one.random[0] == pytest.approx(0)
    assert "Trust attnlrp: abpc 5.2 [" in one.verdict
    assert "cannot be told apart from gim" in one.verdict
    assert "5 texts are few" in one.verdict


def test_intervals_of_differences_are_those_of_the_paired_bootstrap(tmp_path):
    generator = np.random.default_rng(3)
    common = generator.normal(size=40) * 10
    values = {
        "attnlrp": {"abpc": (common + 20.5 + generator.normal(size=40)).tolist()},
        "gim": {"abpc": (common + 20 + generator.normal(size=40)).tolist()},
        "random": {"abpc": generator.normal(size=40).tolist()},
    }
    one = found(tmp_path, values)
    difference = np.array(values["attnlrp"]["abpc"]) - np.array(values["gim"]["abpc"])
    resampled = [np.mean(difference[generator.integers(40, size=40)]) for _ in range(4000)]
    second = one.candidates[1]
    assert (second.behind_low, second.behind_high) == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.05)
    # Unpaired, the wide spread of the texts would hide it.
    assert second.high - second.low > 4 * (second.behind_high - second.behind_low)
    assert one.best.first == pytest.approx(np.mean(np.array(resampled) > 0), abs=0.03)
    assert "texts are few" not in one.verdict


def test_how_often_each_is_first_adds_up_and_equal_ones_share():
    values = np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 3.0], [1.0, 1.0, 0.5]])
    first = _how_often_first(values, 0)
    assert first.sum() == pytest.approx(1)
    assert first[0] == first[1]
    # The third needs the second text to be drawn often enough: over all 27 draws.
    draws = np.array(np.meshgrid(*[range(3)] * 3)).reshape(3, -1).T
    means = values[draws].mean(1)
    third = np.mean((means[:, 2] > means[:, 0]) + (means[:, 2] == means[:, 0]) / 3)
    assert first[2] == pytest.approx(third, abs=0.04)


def test_where_none_beats_a_random_order_none_is_recommended(tmp_path):
    values = abpc(
        attnlrp=[0.1, -0.2, 0.3, -0.1, 0.0, 0.2],
        gradient=[-0.1, 0.2, -0.3, 0.1, 0.0, -0.2],
        random=[0.2, -0.1, 0.1, -0.2, 0.1, 0.0],
    )
    one = found(tmp_path, values)
    assert one.method is None
    assert one.verdict.startswith("No method beats a random order on these 6 texts: the best, attnlrp, has abpc ")


def test_methods_that_do_not_beat_a_random_order_are_named(tmp_path):
    values = abpc(
        attnlrp=[4.0, 5.0, 7.0, 6.0, 4.0],
        gradient=[-0.1, 0.2, -0.3, 0.1, 0.0],
        random=[0.2, -0.1, 0.1, -0.2, 0.1],
    )
    one = found(tmp_path, values)
    assert one.method == "attnlrp"
    assert "Not better than a random order, by this measure: gradient." in one.verdict
    assert "It is ahead of every other method; of the next, gradient, by 5.22 [" in one.verdict


def test_who_removes_tokens_is_favoured_and_the_best_other_is_named(tmp_path):
    values = abpc(
        leave_one_out=[4.0, 5.0, 7.0, 6.0, 4.0],
        context_cite=[3.9, 4.9, 6.9, 5.9, 3.9],
        gim=[2.0, 3.0, 3.0, 2.0, 1.0],
        random=[0.2, -0.1, 0.1, -0.2, 0.1],
    )
    one = found(tmp_path, values)
    assert [c.self_removing for c in one.candidates] == [True, True, False]
    assert one.method == "leave-one-out"
    assert one.best_other.method == "gim"
    assert "leave-one-out removes parts of the prompt itself, as this measure does, which favours it" in one.verdict
    assert "the best of those that do not is gim: 2.2 [" in one.verdict


def test_a_measure_that_removes_nothing_gives_no_home_advantage(tmp_path):
    (column,) = [c for c in MEASURES["ground-truth"].columns if c.name == "mrr"]
    values = {
        name: {"mrr": [1.0, 0.5, 1.0, 0.9, 0.8 + bonus]} for name, bonus in (("leave-one-out", 0.1), ("gim", 0.0))
    }
    values["random"] = {"mrr": [0.1, 0.2, 0.1, 0.3, 0.1]}
    one = found(tmp_path, values, measures=("ground-truth",), by=column)
    assert not any(c.self_removing for c in one.candidates)
    assert "favours it" not in one.verdict


def test_low_values_may_be_the_good_ones(tmp_path):
    sufficiency = MEASURES["comprehensiveness-sufficiency"].columns[1]
    values = {
        "gim": {"sufficiency": [1.0, 2.0, 1.5, 1.0, 1.2]},
        "gradient": {"sufficiency": [3.0, 4.0, 3.5, 3.0, 3.2]},
        "random": {"sufficiency": [5.0, 5.0, 5.0, 4.0, 4.5]},
    }
    one = found(tmp_path, values, measures=("comprehensiveness-sufficiency",), by=sufficiency)
    assert one.method == "gim"
    assert one.candidates[1].behind == pytest.approx(2)
    assert one.best.above_random == pytest.approx(np.mean([4, 3, 3.5, 3, 3.3]))
    assert one.candidates[1].beats_random


def test_a_method_that_fails_on_some_texts_is_not_recommended(tmp_path):
    values = abpc(
        gim=[9.0, 9.0, 9.0, 9.0, 9.0, 9.0],
        attnlrp=[4.0, 5.0, 7.0, 6.0, 4.0, 5.0],
        random=[0.2, -0.1, 0.1, -0.2, 0.1, 0.0],
    )
    one = found(tmp_path, values, refused={"gim": [2]})
    assert one.method == "attnlrp"
    assert one.refused == {"gim": (1, "it does not fit")}
    assert "gim was left out: 1 texts refused: it does not fit" in repr(one)
    # A text that fits no method does not count against any.
    other = found(tmp_path / "other", values, refused={name: [2] for name in values})
    assert other.texts == 5
    assert other.method == "gim"


def test_fewer_than_five_texts_are_refused(tmp_path):
    values = abpc(attnlrp=[4.0, 5.0, 7.0, 6.0, 4.0], random=[0.2, -0.1, 0.1, -0.2, 0.1])
    with pytest.raises(ApportionError, match="only 4 texts could be measured"):
        found(tmp_path, values, refused={name: [0] for name in values})
    with pytest.raises(ApportionError, match="2 texts were given; from fewer than 5"):
        explainer().recommend(TEXTS[:2])
    with pytest.raises(ApportionError, match="4 texts were given"):
        explainer().recommend(TEXTS, limit=4)


def test_when_no_method_serves_every_text_none_can_be_recommended(tmp_path):
    values = abpc(attnlrp=[4.0, 5.0, 7.0, 6.0, 4.0], random=[0.2, -0.1, 0.1, -0.2, 0.1])
    with pytest.raises(
        ApportionError, match=r"no method served all 5 texts, so none can be .* attnlrp: it does not fit"
    ):
        found(tmp_path, values, refused={"attnlrp": [0]})


def test_other_measures_that_disagree_are_named_with_the_rank(tmp_path):
    measures = ("perturbation-curves", "comprehensiveness-sufficiency", "infidelity", "leave-one-out-agreement")
    numbers = {
        #  abpc, comprehensiveness (higher), sufficiency (lower), infidelity (lower), loo_pearson
        "attnlrp": (5.0, 3.0, 1.0, 0.5, 0.6),
        "gim": (4.0, 2.0, 0.5, 0.4, 0.7),
        "leave-one-out": (3.0, 2.5, 0.7, 0.3, 1.0),
        "random": (0.0, 0.0, 2.0, 1.0, 0.0),
    }
    names = ("abpc", "comprehensiveness", "sufficiency", "infidelity", "loo_pearson")
    values = {
        method: {name: [number + 0.01 * i for i in range(5)] for name, number in zip(names, of_method, strict=True)}
        for method, of_method in numbers.items()
    }
    one = found(tmp_path, values, measures=measures)
    assert one.best.ranks == {"comprehensiveness": 1, "sufficiency": 3, "infidelity": 3, "loo_pearson": 2}
    # Leave-one-out agrees with itself, which is nothing to its credit.
    assert one.preferred_by()["loo_pearson"] == ["gim"]
    assert "loo_pearson" not in one.candidates[2].ranks
    assert "It is best by comprehensiveness too." in one.verdict
    assert "gim is best by sufficiency (attnlrp is 3rd), loo_pearson (attnlrp is 2nd)" in one.verdict
    assert "leave-one-out is best by infidelity (attnlrp is 3rd)" in one.verdict


def test_of_those_that_cannot_be_told_apart_the_cheapest_is_named(tmp_path):
    values = abpc(attnlrp=[4.0, 5.0, 7.0, 6.0, 4.0], gim=[4.0, 5.0, 6.9, 6.1, 3.9], random=[0.2, -0.1, 0.1, -0.2, 0.1])
    one = found(tmp_path, values, seconds={"attnlrp": 0.4, "gim": 0.25})
    assert "the cheapest of these is gim, at 0.25 s a text" in one.verdict
    other = found(tmp_path / "other", values, seconds={"attnlrp": 0.1, "gim": 0.25})
    assert "the cheapest of these is attnlrp, at 0.1 s a text" in other.verdict


def test_what_is_recommended_is_what_explain_takes(tmp_path):
    values = abpc(mine=[4.0, 5.0, 7.0, 6.0, 4.0], random=[0.2, -0.1, 0.1, -0.2, 0.1])
    method = LeaveOneOut(masker="delete")
    one = found(tmp_path, values, given={"mine": method})
    assert one.method is method
    assert one.best.self_removing


def test_the_frame_and_the_report_hold_every_method(tmp_path):
    values = abpc(attnlrp=[4.0, 5.0, 7.0, 6.0, 4.0], gim=[1.0, 2.0, 6.0, 2.0, 1.0], random=[0.2, -0.1, 0.1, -0.2, 0.1])
    one = found(tmp_path, values)
    frame = one.to_frame()
    assert frame["method"].tolist() == ["attnlrp", "gim"]
    assert frame["behind"].tolist() == pytest.approx([0, 2.8])
    assert frame["beats_random"].tolist() == [True, True]
    text = repr(one)
    assert text.startswith(one.verdict.splitlines()[0])
    assert "5.20 [4.20, 6.20]" in text
    assert "2.80 [" in text


def test_a_model_is_measured_and_a_method_recommended(tmp_path):
    options = {"methods": ["attnlrp", "gradient", "leave-one-out"], "progress": False}
    with InFloat64():
        one = explainer().recommend(iter(TEXTS), path=tmp_path / "one", **options)
        again = explainer().recommend(TEXTS, path=tmp_path / "one", **options)
    assert one.texts == len(TEXTS)
    assert one.verdict == again.verdict
    assert set(one.preferred_by()) >= {"comprehensiveness", "sufficiency", "infidelity", "loo_pearson"}
    means = {row.method: [] for row in one.evaluation}
    for row in one.evaluation:
        means[row.method].append(row.values["abpc"])
    assert one.best.mean == pytest.approx(max(np.mean(means[name]) for name in options["methods"]))
    if one.method is not None:
        assert explainer().explain(TEXTS[0], method=one.method, progress=False).method == one.best.method


def test_another_measure_may_decide(tmp_path):
    options = {"methods": ["attnlrp", "gradient"], "progress": False}
    one = explainer().recommend(TEXTS, measures=["infidelity(samples=8)"], path=tmp_path / "a", **options)
    assert one.measure.name == "infidelity"
    other = explainer().recommend(
        TEXTS, measures=["infidelity(samples=8)"], by="infidelity_correlation", path=tmp_path / "a", **options
    )
    assert other.measure.name == "infidelity_correlation"
    with pytest.raises(ApportionError, match="by='abpc' cannot decide; these measures have infidelity, "):
        explainer().recommend(TEXTS, measures=["infidelity"], by="abpc")


def test_every_candidate_is_a_method():
    for name in CANDIDATES:
        assert as_method(name).name == name.partition("(")[0]
