"""`apportion interactions`: it says what the library says, writes whole files, and refuses in one line."""

import json
from dataclasses import replace

import pytest

import apportion as ap
from tests.asking import with_game
from tests.test_cli import TEXT, _plain, done, folder, refusal  # noqa: F401 - the plain terminal and the model


def said(values):
    """Everything but the time by the clock."""
    return {**values, "cost": {**values["cost"], "seconds": 0}}


@pytest.fixture(scope="module")
def explainer(folder):  # noqa: F811
    return ap.load(folder)


def asked(folder, *args):  # noqa: F811
    return said(json.loads(done("interactions", "-m", folder, TEXT, *args, "--json").stdout))


def expected(explainer, **options):
    return said(json.loads(json.dumps(explainer.interactions(TEXT, **with_game(**options)).to_dict())))


def test_json_is_what_the_library_says(folder, explainer):  # noqa: F811
    assert asked(folder) == expected(explainer)
    args = ("-t", " are", "-c", " is", "--method", "input-x-gradient", "--masker", "attention-mask", "--order", "3")
    options = {"target": " are", "contrast": " is", "method": "input-x-gradient", "masker": "attention-mask"}
    assert asked(folder, *args) == expected(explainer, **options, order=3)
    assert asked(folder, "--index", "first-order-pairs") == expected(explainer, index="first-order-pairs")
    assert asked(folder, "--span", " is the") == expected(explainer, target=ap.Span(" is the"))


def test_players_and_targets_are_kinds_or_texts_of_the_prompt(folder, explainer):  # noqa: F811
    found = asked(folder, "--players", "The man", "--players", "the dogs", "--of", "features")
    assert found == expected(explainer, players=["The man", "the dogs"], of="features")
    assert [f["label"] for f in found["sources"]] == ["The man", "the dogs"]
    assert asked(folder, "--players", "words") == expected(explainer, players="words")


def test_what_is_computed_can_be_kept(folder, explainer, tmp_path):  # noqa: F811
    first = asked(folder, "--path", "kept.safetensors")
    assert (tmp_path / "kept.safetensors").is_file()
    assert first["values"] == asked(folder, "--path", "kept.safetensors")["values"] == expected(explainer)["values"]


def test_words_are_summed_where_that_is_asked(folder, monkeypatch):  # noqa: F811
    monkeypatch.setattr(ap.Interactions, "words", lambda found: replace(found, model="summed"))
    assert asked(folder, "--words")["model"] == "summed"
    assert asked(folder)["model"] != "summed"


def test_files_are_those_of_the_result(folder, tmp_path):  # noqa: F811
    pytest.importorskip("matplotlib")
    result = done("interactions", "-m", folder, TEXT, "--html", "a.html", "--plot", "a.svg", "--save", "a.safetensors")
    loaded = ap.Interactions.load(tmp_path / "a.safetensors")
    assert (tmp_path / "a.html").read_text() == loaded.to_html()
    assert "<svg" in (tmp_path / "a.svg").read_text()
    assert [line.rstrip() for line in result.stdout.splitlines()] == repr(loaded).splitlines()
    assert result.stderr.splitlines()[-3:] == ["wrote a.html", "wrote a.svg", "wrote a.safetensors"]
    assert done("interactions", "-m", folder, TEXT, "-q").stdout == ""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--budget", "some"), "--budget 'some' is no number of coalitions"),
        (("--estimator", "guess"), "--estimator 'guess' is not known"),
        (("--players", "a cat"), "span 'a cat' occurs 0 times"),
        (("--of", "words", "--of", "man"), "span 'words' occurs 0 times"),
        (("--masker", "smear"), "there is no masker 'smear'"),
        (("--method", "guess"), "there is no method 'guess'"),
        (("--players", "words", "--budget", "3"), "budget"),
        (("--span", " is", "-t", " is"), "--span is explained by its log-probability"),
        (("--save", "no/a.safetensors"), "there is no folder 'no'"),
        (("--plot", "a.txt"), "a figure's name ends in"),
    ],
)
def test_what_does_not_fit_ends_in_one_line_and_leaves_no_file(folder, tmp_path, args, message):  # noqa: F811
    assert message in refusal("interactions", "-m", folder, TEXT, "--html", "page.html", *args)
    assert not list(tmp_path.iterdir())
