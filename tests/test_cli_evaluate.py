"""`apportion evaluate`: it prints and writes what the library finds, goes on where it was, and refuses in one line."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pandas
import pytest
from typer.testing import CliRunner

import apportion as ap
from apportion import cli
from apportion.cli._method import names_in
from apportion.evaluation import Evaluation, Run
from tests.tiny import build, tokenizer

TEXTS = ["The man who owns the dogs", "a b c d", "the dogs owns", "The man", "the man owns", "dogs owns the man"]
FAST = ("--method", "gradient,attnlrp", "--measure", "perturbation-curves(steps=3)")
PLUGIN = """
import apportion as ap
import torch


@ap.register("by-length")
class ByLength(ap.Method):
    def attribute(self, task):
        lengths = [[float(len(f.label)) for f in p.features] for p in task.prompts]
        return ap.Shares(scores=[torch.tensor([row] * len(task.targets)) for row in lengths])
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "llama"
    build("llama").float().save_pretrained(path)
    tokenizer("causal").save_pretrained(path)
    return path


@pytest.fixture(autouse=True)
def _plain(monkeypatch, tmp_path):
    """A wide terminal without colours, and a folder to work in that holds some texts."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")


def run(*args, stdin=None):
    return CliRunner().invoke(cli.app, ["evaluate", *map(str, args)], input=stdin, prog_name="apportion")


def done(*args, stdin=None):
    result = run(*args, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result


def refusal(*args):
    """The one line that the command ends with."""
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert re.fullmatch(r"error: .+\n", result.stderr), result.stderr
    return result.stderr


def test_it_prints_every_method_s_mean_by_every_measure(model):
    shown = done("-m", model, "--data", "texts.txt", *FAST, "--limit", 3).stdout
    assert "2 methods on 3 items" in shown
    for name in ("gradient", "attnlrp", "random", "abpc", "abpc_probability"):
        assert name in shown


def test_json_holds_what_the_tables_hold(model):
    printed = done("-m", model, "--data", "texts.txt", *FAST, "--json", "--quiet")
    found = json.loads(printed.stdout)
    assert printed.stderr == ""
    explainer = ap.load(model)
    expected = explainer.evaluate(
        "texts.txt", methods=["gradient", "attnlrp"], measures=["perturbation-curves(steps=3)"], progress=False
    )
    assert (found["items"], found["accuracy"]) == (6, {"correct": 0, "known": 0})
    for row, of_table in zip(found["summary"], expected.summary().to_dict("records"), strict=True):
        assert (row["method"], row["measure"], row["n"]) == (of_table["method"], of_table["measure"], 6)
        assert [row["mean"], row["low"]] == pytest.approx([of_table["mean"], of_table["low"]])
    assert [row["method"] for row in found["costs"]] == ["gradient", "attnlrp"]
    assert found["refusals"] == []
    assert found["rank_correlations"]["abpc"]["abpc_probability"] is None  # of two methods
    assert (found["seed"], found["masker"], found["data"]) == (0, "auto", "texts.txt")


def test_the_folder_holds_rows_summary_and_page(model, tmp_path):
    printed = done("-m", model, "--data", "texts.txt", *FAST, "--out", "run", "--parquet", "rows.parquet")
    found = Evaluation.load(tmp_path / "run")
    assert len(found) == 6
    summary = pandas.read_csv(tmp_path / "run" / "summary.csv")
    pandas.testing.assert_frame_equal(summary, found.summary(), check_dtype=False)
    assert "<html" in (tmp_path / "run" / "report.html").read_text()
    assert pandas.read_parquet(tmp_path / "rows.parquet").item.nunique() == 6
    for name in ("run/rows.jsonl", "run/summary.csv", "run/report.html", "rows.parquet"):
        assert f"wrote {name}\n" in printed.stderr


def test_the_page_can_be_written_by_itself(model, tmp_path):
    done("-m", model, "--data", "texts.txt", *FAST, "--html", "page.html", "--quiet")
    assert "<html" in (tmp_path / "page.html").read_text()


def test_the_same_command_goes_on_after_an_interruption(model, tmp_path, monkeypatch):
    request = ("-m", model, "--data", "texts.txt", *FAST, "--out", "run")
    rows_of, measured = Run.rows_of, []

    def interrupted(self, item):
        measured.append(item.prompt)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return rows_of(self, item)

    monkeypatch.setattr(Run, "rows_of", interrupted)
    stopped = run(*request)
    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert stopped.stderr.splitlines()[-1] == "interrupted; run the same command again to go on"
    assert len(Evaluation.load(tmp_path / "run")) == 2
    done(*request)
    assert measured == [*TEXTS[:3], *TEXTS[2:]]
    assert "another run (not the same: seed)" in refusal(*request, "--seed", 1)


def test_an_interruption_without_a_folder_says_what_would_have_kept_the_rows(model, monkeypatch):
    def interrupted(self, item):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "rows_of", interrupted)
    stopped = run("-m", model, "--data", "texts.txt", *FAST)
    assert stopped.exit_code == 130
    assert "with --out, the rows would have been kept" in stopped.stderr


def test_recommend_says_which_method_to_trust(model):
    request = ("-m", model, "--data", "texts.txt", *FAST, "--recommend")
    shown = done(*request)
    assert "gradient" in shown.stdout
    assert "attnlrp" in shown.stdout
    found = json.loads(done(*request, "--json", "--quiet", "--html", "page.html", "--save", "kept").stdout)
    assert isinstance(found["recommended"], str)
    advice = ap.Recommendation.load("kept")
    assert advice.verdict == found["recommended"]
    assert Path("page.html").read_text() == advice.to_html()
    assert found["items"] == 6


def test_methods_of_a_plugin_take_part(model, tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    from apportion.methods import METHODS

    try:
        shown = done(
            "-m", model, "--data", "-", "--methods", "by-length", *FAST[2:], "--plugin", "mine.py", stdin="a b\n"
        )
        assert "by-length" in shown.stdout
    finally:
        METHODS.pop("by-length", None)


def test_names_are_divided_at_commas_that_no_parenthesis_encloses():
    given = ["attnlrp, cp-lrp", "shapley(budget=8, seed=1),gradient", "rollout,"]
    assert names_in(given) == ["attnlrp", "cp-lrp", "shapley(budget=8, seed=1)", "gradient", "rollout"]
    assert names_in(None) == []


def test_requests_that_do_not_fit_are_refused_in_one_line(model, tmp_path):
    fits = ("-m", model, "--data", "texts.txt")
    assert "there is no method 'attnlrq'" in refusal(*fits, "--method", "attnlrq")
    assert "there is no measure 'abpc'" in refusal(*fits, "--measure", "abpc")
    assert "there is no masker 'nothing'" in refusal(*fits, "--masker", "nothing")
    assert "there is no folder" in refusal(*fits, "--html", "nowhere/page.html")
    assert "agrement" in refusal("-m", model, "--data", "agrement")
    assert "is not empty and holds no run" in refusal(*fits, *FAST, "--out", tmp_path)


def test_numbers_that_are_not_defined_are_null(model):
    found = json.loads(done("-m", model, "--data", "-", *FAST, "--json", stdin="The man\n").stdout)
    assert {row["low"] for row in found["summary"]} == {None}  # of one item
    assert not any(isinstance(v, float) and math.isnan(v) for row in found["summary"] for v in row.values())
