"""The run: written down item by item, taken up again, in constant memory, the same for the same seed."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path

import pandas
import pytest
import torch
from torch import nn

import apportion as ap
from apportion.core._fingerprint import fingerprint, weights_fingerprint
from apportion.evaluation import Column, Evaluation, Item, Measure, Row, Run, evaluate
from apportion.methods import as_method
from tests.checking import unchecked
from tests.evaluation import interrupted
from tests.tiny import build, tiny, tokenizer

TEXTS = ["The man who owns the dogs", "a b c d", "the dogs owns", "The man"]
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Size(Measure):
    """For tests: the sum of the sizes of an attribution's scores."""

    name = "size"
    columns = (Column(name="size", better="", meaning="for tests"),)
    factor: float = 1.0

    def of(self, case, attribution, method):
        return {"size": self.factor * attribution.scores.abs().sum().item()}


@dataclass(frozen=True, kw_only=True)
class Lengths(Measure):
    """For tests: refuses prompts of many tokens, and is not defined for short ones."""

    name = "lengths"
    columns = (
        Column(name="length", better="", meaning="for tests"),
        Column(name="lengths", better="", meaning="for tests", curve=True),
    )

    def of(self, case, attribution, method):
        count = len(attribution.features)
        if count > 8:
            raise ap.ApportionError("too long to measure.")
        return {"length": float("nan") if count < 5 else count, "lengths": [1.0, float("nan")]}


@dataclass(frozen=True, kw_only=True)
class Failing(ap.Method):
    """For tests: fails on one prompt as long as the switch is on."""

    name = "failing"
    on = True

    def attribute(self, task):
        if Failing.on and len(task.prompts[0].features) == 3:
            raise ZeroDivisionError("a mistake in the method")
        return ap.Shares(scores=[torch.ones(len(task.targets), len(p.features)) for p in task.prompts])


@dataclass(frozen=True, kw_only=True)
class Fixed(ap.Method):
    """For tests: shares that are given, of which a result's options keep the shape only."""

    name = "fixed"
    shares: torch.Tensor

    def attribute(self, task):
        return ap.Shares(scores=[self.shares[None, : len(p.features)] for p in task.prompts])


@pytest.fixture(scope="module")
def explainer():
    return ap.Explainer(tiny("llama"), tokenizer("causal"))


def ran(explainer, data=TEXTS, methods=("gradient", "attnlrp"), measures=(Size(),), **more) -> Evaluation:
    return explainer.evaluate(data, methods=methods, measures=measures, progress=False, **more)


def repeated(rows) -> list[Row]:
    """What another run repeats."""
    return [replace(row, seconds=None) for row in rows]


def test_there_is_a_row_for_each_item_and_method_in_order_and_the_random_order_costs_nothing(explainer):
    items = [Item(id="x", prompt=TEXTS[0], target=3, contrast=4, groups={"n": 1}), Item(id="y", prompt=TEXTS[1])]
    rows = list(ran(explainer, items))
    assert [(row.item, row.method) for row in rows] == [
        (item, method) for item in "xy" for method in ("gradient", "attnlrp", "random")
    ]
    x, _, random, y, *_ = rows
    found = explainer.explain(TEXTS[0], target=3, contrast=4, method="gradient")
    assert x.values["size"] == pytest.approx(found.scores.abs().sum().item())
    assert x.explained == pytest.approx(found.explained[0].value)
    assert (x.correct, y.correct) == (found.explained[0].value > 0, None)
    assert (x.groups, y.groups, x.players) == ({"n": 1}, {}, 8)
    assert x.seconds > 0
    assert (random.seconds, random.forward, random.backward) == (None, None, None)


def test_a_run_is_the_same_for_the_same_seed_and_another_for_another(explainer):
    measures = ["perturbation-curves"]
    one, two = (ran(explainer, measures=measures, seed=5) for _ in range(2))
    assert repeated(one) == repeated(two)
    pandas.testing.assert_frame_equal(one.summary(), two.summary())
    other = ran(explainer, measures=measures, seed=6)
    assert repeated(one) != repeated(other)


def test_a_row_does_not_depend_on_the_items_and_measures_before_it(explainer):
    every = repeated(ran(explainer, measures=["perturbation-curves", Size()]))
    items = [Item(id=str(k), prompt=text) for k, text in enumerate(TEXTS)]
    last = repeated(ran(explainer, items[-1:], measures=[Size(), "perturbation-curves"]))
    assert every[-3:] == last


def test_a_run_killed_ten_times_ends_as_one_that_was_not(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.evaluation.interrupted", str(tmp_path / "killed"), "10"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 10
    killed, whole = Evaluation.load(tmp_path / "killed"), interrupted.run(tmp_path / "whole")
    assert repeated(killed) == repeated(whole)
    assert len(list(whole)) == 4 * len(interrupted.ITEMS)
    pandas.testing.assert_frame_equal(killed.summary(), whole.summary())
    pandas.testing.assert_frame_equal(killed.summary(by="length"), whole.summary(by="length"))
    pandas.testing.assert_frame_equal(killed.curves(), whole.curves())


@pytest.mark.parametrize(
    "torn", ["inside a line", "inside an item's last line", "the last newline", "between an item's lines", "nothing"]
)
def test_what_was_torn_off_is_measured_again_and_nothing_else(explainer, tmp_path, monkeypatch, torn):
    whole = repeated(ran(explainer, path=tmp_path))
    file = tmp_path / "rows.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    kept, complete = {
        "inside a line": ([*lines[:10], lines[10][:50]], 3),
        "inside an item's last line": ([*lines[:8], lines[8][:50]], 2),
        "the last newline": ([*lines[:8], lines[8][:-1]], 2),
        "between an item's lines": (lines[:7], 2),
        "nothing": (lines, 4),
    }[torn]
    file.write_bytes(b"".join(kept))
    assert len(list(Evaluation.load(tmp_path))) == 3 * complete  # also while it is torn
    measured, rows_of = [], Run.rows_of
    monkeypatch.setattr(Run, "rows_of", lambda self, item: measured.append(item.id) or rows_of(self, item))
    assert repeated(ran(explainer, path=tmp_path)) == whole
    assert measured == ["0", "1", "2", "3"][complete:]


def test_more_data_or_a_higher_limit_continue_a_run(explainer, tmp_path):
    assert len(ran(explainer, TEXTS[:3], path=tmp_path, limit=2)) == 2
    assert len(ran(explainer, TEXTS[:3], path=tmp_path)) == 3
    assert repeated(ran(explainer, TEXTS, path=tmp_path)) == repeated(ran(explainer, TEXTS))


def test_a_folder_with_another_run_is_refused(explainer, tmp_path):
    ran(explainer, path=tmp_path)
    others = {
        "methods": {"methods": ["gradient"]},
        "measures": {"measures": [Size(factor=2.0)]},
        "seed": {"seed": 1},
        "masker": {"masker": "zero"},
    }
    for what, request in others.items():
        with pytest.raises(ap.ApportionError, match=rf"holds another run \(not the same: .*{what}.*\)"):
            ran(explainer, path=tmp_path, **request)
    trained = build("llama")
    with torch.no_grad():
        next(trained.parameters()).mul_(1.001)
    with pytest.raises(ap.ApportionError, match="not the same: weights"):
        ran(ap.Explainer(trained, tokenizer("causal")), path=tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").touch()
    with pytest.raises(ap.ApportionError, match="is not empty and holds no run"):
        ran(explainer, path=tmp_path / "other")
    with pytest.raises(ap.ApportionError, match="cannot write to the folder"):
        ran(explainer, path=tmp_path / "other" / "letter.txt")


def test_other_rules_under_the_same_name_are_another_run(explainer, tmp_path):
    composite = replace(ap.ATTNLRP, name="mine")
    ran(explainer, methods={"mine": composite}, path=tmp_path)
    with pytest.raises(ap.ApportionError, match=r"not the same: .*methods"):
        ran(explainer, methods={"mine": replace(composite, norm="gradient")}, path=tmp_path)
    shares = torch.arange(100.0)
    ran(explainer, methods=[Fixed(shares=shares)], path=tmp_path / "fixed")
    with pytest.raises(ap.ApportionError, match=r"not the same: methods\)"):
        ran(explainer, methods=[Fixed(shares=shares + 1)], path=tmp_path / "fixed")


def test_other_data_in_the_same_folder_are_refused(explainer, tmp_path):
    ran(explainer, path=tmp_path, limit=2)
    with pytest.raises(ap.ApportionError, match="where the data have the item '1', it has another item of that id"):
        ran(explainer, [TEXTS[0], "the cat"], path=tmp_path)
    with pytest.raises(ap.ApportionError, match="where the data have the item 'x', it has the item '0'"):
        ran(explainer, [Item(id="x", prompt="the cat")], path=tmp_path)


def test_two_runs_do_not_write_to_one_folder(explainer, tmp_path):
    ran(explainer, path=tmp_path, limit=1)
    with Evaluation.load(tmp_path).rows.locked(), pytest.raises(ap.ApportionError, match="another run is writing"):
        ran(explainer, path=tmp_path)
    assert len(ran(explainer, path=tmp_path)) == 4


def test_a_damaged_file_is_refused_and_left_as_it_is(explainer, tmp_path):
    ran(explainer, path=tmp_path)
    file = tmp_path / "rows.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    for damaged in (
        [b"{\n", *lines[1:]],
        lines[1:] + lines[:1],
        [b"{}\n", *lines[1:]],
        [lines[1], lines[0], *lines[2:]],
    ):
        file.write_bytes(b"".join(damaged))
        with pytest.raises(ap.ApportionError, match="begin again in another folder"):
            ran(explainer, path=tmp_path)
        assert file.read_bytes() == b"".join(damaged)


def test_a_mistake_in_a_method_names_it_and_the_item_and_the_run_can_go_on(explainer, tmp_path, monkeypatch):
    monkeypatch.setattr(Failing, "on", True)
    request = {"methods": {"mine": Failing()}, "path": tmp_path}
    with pytest.raises(ZeroDivisionError) as caught:
        ran(explainer, **request)
    assert caught.value.__notes__ == ["while 'mine' was measured on the item '3'"]
    assert len(Evaluation.load(tmp_path)) == 3
    monkeypatch.setattr(Failing, "on", False)
    assert len(ran(explainer, **request)) == 4


def test_what_does_not_fit_is_a_row_with_the_reason(explainer):
    items = [Item(id="long", prompt="a " * 99, target=0, contrast=1), Item(id="fits", prompt=TEXTS[0])]
    long, *_, fits, mamba, random = ran(explainer, items, methods=["gradient", "mamba-lrp"])
    assert "context is 32" in long.refused
    assert (fits.refused, random.refused) == (None, None)
    assert mamba.refused is not None
    assert mamba.values == {}


def test_a_measure_that_does_not_fit_leaves_the_others(explainer):
    long, _, short, _, shortest, _ = ran(
        explainer, [TEXTS[0], TEXTS[2], "a"], methods=["gradient"], measures=[Lengths(), Size()]
    )
    assert long.refused == "lengths: too long to measure."
    assert set(long.values) == {"size"}
    assert short.refused is None
    assert short.values["length"] > 4
    assert short.curves == {"lengths": [1.0, None]}
    assert shortest.values["length"] is None


def test_requests_that_do_not_fit_are_refused(explainer):
    refused = {
        "leave it out of the methods": {"methods": {"random": "gradient"}},
        "measures is empty": {"measures": []},
        "two of the measures have a column 'size'": {"measures": [Size(), Size(factor=2.0)]},
        "seed=-1 is not possible": {"seed": -1},
        "limit=0 is not possible": {"limit": 0},
        "there is no item to evaluate": {"data": []},
        "two items are called 'x'": {"data": [Item(id="x", prompt="a"), Item(id="x", prompt="b")]},
    }
    for reason, request in refused.items():
        with pytest.raises(ap.ApportionError, match=reason):
            ran(explainer, **request)


class Cheap(Run):
    """A run whose rows take no time, and as much room as those of a real one."""

    def rows_of(self, item):
        known = {"item": item.id, "fingerprint": fingerprint(item), "groups": dict(item.groups)}
        values = {"size": float(int(item.id) % 7)}
        curves = {"lengths": [0.1 * k for k in range(20)]}
        return [Row(method=label, values=values, curves=curves, **known) for label in self.labels]


def endless():
    for k in itertools.count():
        yield Item(id=str(k), prompt=f"{k} " + 100 * "word ", groups={"n": k % 3})


def test_ten_thousand_items_take_no_more_memory_than_a_thousand(explainer, tmp_path):
    run = Cheap(engine=explainer, methods={"gradient": as_method("gradient")}, measures=[Size()])
    peaks = []
    for count in (1000, 10_000, 10_000):  # the third goes through what the second has done
        tracemalloc.start()
        with unchecked():
            found = evaluate(run, endless(), path=tmp_path / str(count), limit=count, progress=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # What grows is the set of ids, by which an item that comes twice is found: less than 200 bytes an item.
    room = 200 * 9000
    assert room < (tmp_path / "10000" / "rows.jsonl").stat().st_size / 5
    assert peaks[1] - peaks[0] < room
    assert peaks[2] - peaks[0] < room
    assert found.summary().n.tolist() == [10_000] * 2


def test_the_bar_says_how_many_items_there_are_and_which_one_is_measured(explainer, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    items = [Item(id=f"[b]{k}", prompt=text) for k, text in enumerate(TEXTS)]

    def shown() -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)

    explainer.evaluate(items, methods=["gradient"], measures=[Size()], limit=3)
    bar = shown()
    assert "3/3" in bar
    assert "[b]" in bar
    explainer.evaluate(iter(items), methods=["gradient"], measures=[Size()])
    assert "4/?" in shown()


def test_settings_are_plain_and_can_be_read_without_the_model(explainer, tmp_path):
    found = ran(explainer, path=tmp_path, measures=["perturbation-curves(steps=5)"])
    settings = json.loads((tmp_path / "run.json").read_text())
    assert settings == found.settings
    assert settings["measures"] == {"perturbation-curves": {"steps": 5}}
    assert Evaluation.load(tmp_path).methods == ["gradient", "attnlrp", "random"]
    with pytest.raises(ap.ApportionError, match="is not the folder of an evaluation"):
        Evaluation.load(tmp_path / "nowhere")


def test_a_run_without_a_folder_goes_when_its_result_does(explainer):
    found = ran(explainer)
    folder = found.path
    assert len(found) == 4
    del found
    assert not folder.exists()


def test_fingerprints_tell_values_apart_and_are_the_same_in_another_process():
    values = [
        None, 0, 0.0, "0", (0,), [0], {"a": 0}, {"b": 0}, {"a": {"b": 0}}, torch.zeros(1), torch.zeros(1, 1),
        torch.zeros(1, dtype=torch.bfloat16), ap.Target("a"), ap.Target("a", ("b",)), ap.Span("a"), len, fingerprint,
        Item(id="a", prompt="b"), Item(id="a", prompt="c"), frozenset({"a"}), "ab", ("a", "b"),
    ]  # fmt: skip
    assert len({fingerprint(value) for value in values}) == len(values)
    assert fingerprint(Item(id="a", prompt="b", target=ap.Target(" c"))) == "ac663d773123e4d6"


def test_weights_that_differ_a_little_have_another_fingerprint():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    before = weights_fingerprint(model)
    assert weights_fingerprint(model) == before
    with torch.no_grad():
        model[0].weight[-1, -1] += 1e-3
    assert weights_fingerprint(model) != before
