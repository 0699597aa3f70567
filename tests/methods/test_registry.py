"""The registry: methods by name, with options, and methods of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import apportion as ap
from apportion.methods import METHODS, as_method, load_plugin
from tests.checking import unchecked
from tests.tiny import tiny, tokenizer

TEXT = "The man who owns the dogs"
PLUGIN = '''
from dataclasses import dataclass
import torch
import apportion as ap


@ap.register("{name}", cost="nothing", source="nobody")
@dataclass(frozen=True, kw_only=True)
class LongWords(ap.Method):
    """The longer a token, the larger its share."""

    power: float = 1.0

    def attribute(self, task):
        lengths = [[len(f.label) ** self.power for f in p.features] for p in task.prompts]
        return ap.Shares(scores=[torch.tensor([row] * len(task.targets)) for row in lengths])
'''


@pytest.fixture
def registry():
    """The registry, given back without what a test adds."""
    before = dict(METHODS)
    yield METHODS
    METHODS.clear()
    METHODS.update(before)


def test_a_registered_method_is_used_like_any_other(registry):
    @ap.register("each-its-place", family="own", cost="nothing", source="nobody")
    @dataclass(frozen=True, kw_only=True)
    class EachItsPlace(ap.Method):
        factor: float = 1.0

        def attribute(self, task):
            return ap.Shares(
                scores=[self.factor * torch.arange(len(p.features)).expand(len(task.targets), -1) for p in task.prompts]
            )

    explainer = ap.Explainer(tiny("llama"), tokenizer("causal"))
    found = explainer.explain(TEXT, method="each-its-place(factor=0.5)")
    assert found.scores.tolist() == [0.5 * i for i in range(9)]
    assert (found.method, found.options, found.conserves) == ("each-its-place", {"factor": 0.5}, "no")
    assert found.ledger is None
    compared = explainer.compare(TEXT, methods=["each-its-place", "attnlrp"])
    assert list(compared) == ["each-its-place", "attnlrp"]
    assert explainer.methods()["each-its-place"] is None


def test_a_method_s_name_is_taken_once(registry):
    with pytest.raises(ap.ApportionError, match="'attnlrp' is taken by AttnLRP"):

        @ap.register("attnlrp")
        class Other(ap.Method):
            def attribute(self, task): ...

    with pytest.raises(ap.ApportionError, match="lower case"):
        ap.register("My method")(another())


def another() -> type[ap.Method]:
    class Another(ap.Method):
        def attribute(self, task): ...

    return Another


def test_a_name_carries_options():
    assert as_method("attnlrp(gate='cut', softmax='cut')").composite.gate == "cut"
    assert as_method(" attnlrp( ) ").composite == ap.ATTNLRP


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("atnlrp", "there is no method 'atnlrp'; did you mean 'attnlrp'? The methods are "),
        ("attnlrp(gates='cut')", "'attnlrp' has no option 'gates'; its options are attention, product, gate"),
        ("attnlrp('cut')", "cannot read the options"),
        ("attnlrp(gate=cut)", "cannot read the options"),
        ("attnlrp(gate='cut'", "cannot read the options"),
        ("attnlrp(gate='up')", "gate='up' is not known"),
        ("attnlrp(**{'gate': 'cut'})", "cannot read the options"),
    ],
)
def test_a_name_that_does_not_fit_is_refused_in_one_line(name, said):
    with unchecked(), pytest.raises(ap.ApportionError) as refused:
        as_method(name)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_every_method_says_what_it_is():
    for name, method in METHODS.items():
        about = method.about
        assert about.family in ("backward", "forward", "perturbation"), name
        assert about.cost, name
        assert about.source, name
        assert method.__doc__, name


def test_a_plugin_s_methods_serve_the_command_line(registry, tmp_path, monkeypatch):
    from apportion.cli import app

    folder, plugin = tmp_path / "llama", tmp_path / "mine.py"
    tiny("llama").save_pretrained(folder)
    tokenizer("causal").save_pretrained(folder)
    plugin.write_text(PLUGIN.format(name="long-words"))
    run = CliRunner().invoke
    args = ["explain", "-m", str(folder), TEXT, "--plugin", str(plugin), "--method", "long-words(power=2.0)", "--json"]
    result = run(app, args)
    assert result.exit_code == 0, result.output
    assert '"method": "long-words"' in result.stdout
    listed = run(app, ["methods", "--plugin", str(plugin)])
    assert "long-words" in listed.stdout
    assert "Your own" in listed.stdout


def test_a_plugin_that_cannot_be_run_is_refused_in_one_line(registry, tmp_path):
    with pytest.raises(ap.ApportionError, match="is no Python file here"):
        load_plugin(tmp_path / "none.py")
    (tmp_path / "broken.py").write_text("raise RuntimeError('no')")
    with pytest.raises(ap.ApportionError, match="cannot be run: RuntimeError: no"):
        load_plugin(tmp_path / "broken.py")


def test_the_documented_table_is_the_registry():
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    expected = [
        f"| `{name}` | `{method.__name__}` | {a.cost} | {a.conserves} | {a.source} |"
        for family in ("backward", "forward", "perturbation")
        for name, method in sorted(METHODS.items())
        if (a := method.about).family == family
    ]
    assert rows == expected
