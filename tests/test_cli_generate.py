"""`apportion generate`: it says what the library says, and ends with the exit codes that it documents."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

import apportion
from apportion import cli
from tests.tiny import build, tokenizer

TEXT = "The man who owns the dogs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "llama"
    build("llama").float().save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


@pytest.fixture(autouse=True)
def _plain(monkeypatch, tmp_path):
    """A wide terminal without colours, and an empty folder to work in."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.chdir(tmp_path)


def run(*args, stdin=None):
    return CliRunner().invoke(cli.app, ["generate", *map(str, args)], input=stdin, prog_name="apportion")


def done(*args, stdin=None):
    result = run(*args, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result


def without_time(values):
    values = json.loads(json.dumps(values))
    values["cost"].pop("seconds")
    return values


def test_json_is_the_answer_and_its_attribution(folder):
    found = json.loads(done("-m", folder, TEXT, "--max-new-tokens", 4, "--method", "cp-lrp", "--json").stdout)
    generation = apportion.load(folder).generate(TEXT, max_new_tokens=4)
    answer = found.pop("answer")
    assert answer == {"text": generation.text, "ids": list(generation.ids), "parts": generation.parts}
    assert without_time(found) == without_time(generation.attribute(method="cp-lrp").to_dict())


def test_a_given_answer_and_a_part_of_it(folder):
    asked = ("-m", folder, TEXT, "--answer", " is sad .", "--of", "sad", "--unit", "log-probability", "--json")
    found = json.loads(done(*asked).stdout)
    assert found["answer"]["text"] == "is sad ."
    assert [(e["label"], e["unit"]) for e in found["targets"]] == [('" sad"', "log-probability")]


def test_a_chat_from_a_pipe_writes_every_file(folder, tmp_path):
    files = {name: tmp_path / f"sky.{name}" for name in ("html", "png", "safetensors")}
    outputs = ("--html", files["html"], "--plot", files["png"], "--save", files["safetensors"])
    result = done("-m", folder, "--chat", "-", "--max-new-tokens", 3, *outputs, stdin="who sees the cat\n")
    assert 'id="matrix"' in files["html"].read_text()
    assert apportion.Attribution.load(files["safetensors"]).features[-1].part == "answer"
    assert result.stderr.count("wrote ") == 3
    assert "sum over 3 tokens" in result.stdout
    assert done("-m", folder, TEXT, "--max-new-tokens", 2, "--quiet").output == ""


def test_drawing_follows_the_seed(folder):
    def ids(seed):
        asked = ("-m", folder, TEXT, "--max-new-tokens", 6, "--do-sample", "--temperature", 2, "--seed", seed, "--json")
        return json.loads(done(*asked).stdout)["answer"]["ids"]

    assert ids(1) == ids(1) != ids(2)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--max-new-tokens", "0"], "max_new_tokens=0"),
        (["--temperature", "2"], "do_sample=True"),
        (["--answer", ""], "empty"),
        (["--answer", " is", "--of", "are"], "occurs 0 times"),
        (["--method", "nonsense"], "no method 'nonsense'"),
        (["--html", "missing/x.html"], "no folder"),
    ],
)
def test_what_does_not_fit_ends_in_one_line(folder, args, said):
    result = run("-m", folder, TEXT, *args)
    assert result.exit_code == 2
    assert re.fullmatch(r"error: .+\n", result.stderr), result.stderr
    assert said in result.stderr
