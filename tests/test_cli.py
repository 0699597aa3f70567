"""The command line: it says what the library says, writes whole files, and ends with the exit code it documents."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
import transformers
import typer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers.models.llama import modeling_llama
from typer.testing import CliRunner

import apportion
from apportion import cli
from apportion.cli import _explain, _interactions, _pairs
from apportion.cli._target import Unit, spacing_hints
from apportion.targets._target import UNITS

TEXT = "The man who owns the dogs"
WORDS = ["<unk>", "<s>", "</s>", "The", " man", " who", " owns", " the", " dogs", " is", " are", "is", "\n"]
TEMPLATE = "{% for message in messages %}<s>{{ message.content }}</s>{% endfor %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random Llama that predicts " is" after `TEXT`, saved with a tokenizer whose tokens begin with a space."""
    path = tmp_path_factory.mktemp("models") / "llama"
    spelled = {word.replace(" ", "Ġ").replace("\n", "Ċ"): i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(spelled, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", chat_template=TEMPLATE
    )
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=len(WORDS), **sizes)).eval()
    with torch.no_grad():
        last = model.model(**fast(TEXT, return_tensors="pt")).last_hidden_state[0, -1]
        model.lm_head.weight[WORDS.index(" is")] = 10 * last / last.norm() ** 2
    model.save_pretrained(path)
    fast.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def explainer(folder):
    return apportion.load(folder)


@pytest.fixture(autouse=True)
def _plain(monkeypatch, tmp_path):
    """A wide terminal without colours, and an empty folder to work in."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.chdir(tmp_path)


def run(*args, stdin=None):
    return CliRunner().invoke(cli.app, [str(arg) for arg in args], input=stdin, prog_name="apportion")


def done(*args, stdin=None):
    """The result of a command that must succeed."""
    result = run(*args, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result


def as_json(*args, stdin=None):
    return json.loads(done(*args, "--json", stdin=stdin).stdout)


def refusal(*args, code=2, stdin=None):
    """The one line that a command must end with, and its exit code."""
    result = run(*args, stdin=stdin)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code
    assert re.fullmatch(r"error: .+\n", result.stderr), result.stderr
    return result.stderr


def same(found, attribution):
    expected = json.loads(json.dumps(attribution.to_dict()))
    for attributions in (found, expected):
        attributions["cost"].pop("seconds")  # by the clock
    assert found == expected


def test_alone_it_shows_four_examples():
    shown = done().stdout
    assert len(re.findall(r"^ +apportion (explain|compare|methods|audit) ", shown, re.MULTILINE)) == 4
    assert max(map(len, shown.splitlines())) <= 100


def test_the_examples_that_it_shows_can_be_parsed():
    group = typer.main.get_command(cli.app)
    texts = [done().stdout, *(done(name, "--help").stdout for name in group.commands)]
    shown = "\n".join(texts).replace("\\\n", " ")
    commands = re.findall(rf"^.*?(?<!Usage: )apportion ((?:{'|'.join(group.commands)}) -.*)$", shown, re.MULTILINE)
    assert len(commands) >= 4 + 3 * (len(group.commands) - 1)
    for command in commands:
        name, *args = shlex.split(command)
        group.commands[name].make_context(name, args)


def test_the_version():
    assert done("--version").stdout == f"apportion {apportion.__version__}\n"


def test_it_runs_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["apportion", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("apportion", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"apportion {apportion.__version__}\n"


def test_help_and_mistakes_need_no_torch():
    # The package around it is stood in for, since what `import apportion` costs is not the command line's to decide.
    package = Path(apportion.__file__).parent
    script = f"""
import sys, types
package = types.ModuleType("apportion")
package.__path__ = [{str(package)!r}]
package.__version__ = "0"
sys.modules["apportion"] = package
from apportion.cli import app
request = ["explain", "-m", "./nowhere", "a text"]
mistakes = [request[:3], [*request, "--html", "nowhere/a.html"], [*request, "--span", "a", "--target", "b"]]
for args in (["--help"], ["explain", "--help"], [], *mistakes):
    try:
        app(args)
    except SystemExit as ended:
        assert ended.code == (2 if args in mistakes else 0)
print(sorted({{"torch", "transformers", "numpy"}} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


def test_help_names_every_exit_code():
    shown = done("explain", "--help").stdout
    assert "Exit codes: 0 done · 1 the model cannot be explained faithfully" in shown


def test_the_choices_are_the_library_s():
    def values(choices):
        return [choice.value for choice in choices]

    explain, pairs = (get_type_hints(f) for f in (apportion.Explainer.explain, apportion.Explainer.explain_pairs))
    kinds = get_args(get_args(apportion.core.AnyFeatures)[0])
    assert values(_explain.Features) == [kind for kind in kinds if kind != "patches"]
    assert values(_explain.Positions) == list(get_args(explain["positions"]))
    assert values(_pairs.Features) == list(get_args(pairs["features"]))
    assert values(_pairs.Pooling) == list(get_args(apportion.models.Pooling))
    assert values(_interactions.Index) == list(get_args(apportion.metagame.Index))
    assert values(Unit) == list(UNITS)


@pytest.mark.parametrize("command", ["audit", "compare", "evaluate", "explain", "generate", "interactions", "pairs"])
def test_results_go_to_the_same_places(command):
    shown = done(command, "--help").stdout
    where = shown.split("Where the result goes")[1].split("How the model runs")[0]
    assert {"--html", "--plot", "--save", "--json", "--quiet"} <= set(re.findall(r"--[a-z]+", where))


@pytest.mark.parametrize(
    ("method", "args", "passed"),
    [
        ("compare", ("explain", TEXT), {"methods"}),
        ("compare", ("compare", TEXT, "--regions", "16", "-t", " is"), {"methods", "regions", "target"}),
        ("audit", ("audit", TEXT, "--position", "1"), {"method", "position"}),
        ("generate", ("generate", TEXT, "--top-p", "1"), {"top_p"}),
        ("interactions", ("interactions", TEXT), {"method", "game"}),
        ("recommend", ("evaluate", "--data", "x", "--recommend", "--seed", "0"), {"seed"}),
        ("evaluate", ("evaluate", "--data", "x", "--methods", "attnlrp, cp-lrp"), {"methods"}),
    ],
)
def test_options_that_were_not_given_are_left_to_the_library(folder, monkeypatch, method, args, passed):
    def recorded(self, *args, **options):
        assert options.get("game") in (None, apportion.Game())
        raise apportion.ApportionError(" ".join(sorted({*options} - {"progress"})))

    monkeypatch.setattr(apportion.Explainer, method, recorded)
    assert refusal(args[0], "-m", folder, *args[1:]) == f"error: {' '.join(sorted(passed))}\n"


def test_the_default_method_is_the_library_s(folder, explainer, monkeypatch):
    monkeypatch.setattr("apportion.engine._engine.default_method", lambda model, *, pixels: apportion.CPLRP())
    assert as_json("explain", "-m", folder, TEXT)["method"] == "cp-lrp"
    expected = explainer.explain(TEXT, method=apportion.CP_LRP.from_layer(1, apportion.GRADIENT))
    same(as_json("explain", "-m", folder, TEXT, "--from-layer", "1:input-x-gradient"), expected)
    found = as_json("compare", "-m", folder, TEXT)
    assert list(found["attributions"])[:2] == ["cp-lrp", "attnlrp"]


def test_it_prints_the_report(folder, explainer):
    shown = done("explain", "-m", folder, TEXT, "-t", " is", "-c", " are").stdout
    expected = repr(explainer.explain(TEXT, target=" is", contrast=" are"))
    assert [line.rstrip() for line in shown.splitlines()] == expected.splitlines()


def test_json_is_the_attribution_and_nothing_else(folder, explainer):
    same(as_json("explain", "-m", folder, TEXT), explainer.explain(TEXT))


@pytest.mark.parametrize(
    ("args", "options"),
    [
        (("--target", " are"), {"target": " are"}),
        (("--target", " are", "--target", " is"), {"target": [" are", " is"]}),
        (("--contrast", " are", "--contrast", " who"), {"contrast": [" are", " who"]}),
        (("--span", " is the"), {"target": apportion.Span(" is the")}),
        (("--unit", "probability"), {"unit": "probability"}),
        (("--position", "1"), {"position": 1}),
        (("--position", "-2"), {"position": -2}),
        (("--position", "owns"), {"position": "owns"}),
        (("--method", "cp-lrp"), {"method": "cp-lrp"}),
        (("--features", "words"), {"features": "words"}),
        (("--features", "sentences"), {"features": "sentences"}),
        (
            ("--from-layer", "1:cp-lrp", "--from-layer", "2:input-x-gradient"),
            {"method": apportion.ATTNLRP.from_layer(1, apportion.CP_LRP).from_layer(2, apportion.GRADIENT)},
        ),
    ],
)
def test_options_mean_what_they_mean_in_the_library(folder, explainer, args, options):
    same(as_json("explain", "-m", folder, TEXT, *args), explainer.explain(TEXT, **options))


def test_positions_are_added_when_asked(tmp_path, folder):
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=len(WORDS), n_embd=8, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    for file in folder.glob("tokenizer*"):
        (tmp_path / "gpt2" / file.name).write_bytes(file.read_bytes())
    expected = apportion.load("gpt2").explain(TEXT)
    assert expected.position_scores is not None
    same(as_json("explain", "-m", "gpt2", TEXT), expected)
    same(as_json("explain", "-m", "gpt2", TEXT, "--positions", "added"), expected.with_positions())


def test_several_methods_come_by_name(folder, explainer):
    args = ("explain", "-m", folder, TEXT, "--method", "cp-lrp", "--method", "attnlrp")
    found = as_json(*args)
    assert list(as_json(*args[:4], "--methods", "cp-lrp,attnlrp")) == list(found)
    assert list(found) == ["cp-lrp", "attnlrp"]
    for name, one in found.items():
        same(one, explainer.explain(TEXT, method=name))
    assert re.findall(r"^(cp-lrp|attnlrp)  ", done(*args).stdout, re.MULTILINE) == ["cp-lrp", "attnlrp"]


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_text_comes_from_anywhere(folder, explainer, ending):
    expected = explainer.explain(TEXT)
    Path("prompt.txt").write_bytes(f"{TEXT}{ending}".encode())
    same(as_json("explain", "-m", folder, "--file", "prompt.txt"), expected)
    same(as_json("explain", "-m", folder, "-", stdin=f"{TEXT}{ending}".encode()), expected)


def test_only_the_last_newline_is_left_off(folder, explainer):
    same(as_json("explain", "-m", folder, "-", stdin=f"{TEXT}\n\n"), explainer.explain(f"{TEXT}\n"))


def test_a_byte_order_mark_is_no_part_of_the_text(folder, explainer):
    same(as_json("explain", "-m", folder, "-", stdin=b"\xef\xbb\xbf" + TEXT.encode()), explainer.explain(TEXT))


def test_a_text_may_begin_with_a_dash(folder):
    found = json.loads(done("explain", "-m", folder, "--json", "--", "- is").stdout)
    assert [feature["label"] for feature in found["features"]] == ["-", " is"]


def test_a_chat_is_json_or_one_message(folder, explainer):
    messages = [{"role": "user", "content": TEXT}, {"role": "assistant", "content": " is"}]
    same(as_json("explain", "-m", folder, "--chat", json.dumps(messages)), explainer.explain(messages))
    same(as_json("explain", "-m", folder, "--chat", TEXT), explainer.explain(messages[:1]))


def test_files_are_written_and_named(folder, explainer, tmp_path):
    result = done("explain", "-m", folder, TEXT, "--html", "a.html", "--save", "a.safetensors", "--plot", "a.png")
    expected = explainer.explain(TEXT)
    assert Path("a.html").read_text() == expected.to_html()
    same(apportion.Attribution.load("a.safetensors").to_dict(), expected)
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "a.png", "a.safetensors"]
    assert result.stderr.splitlines() == ["wrote a.html", "wrote a.png", "wrote a.safetensors"]


def test_a_figure_is_what_its_name_says(folder):
    done("explain", "-m", folder, TEXT, "--plot", "a.SVG")
    assert "<svg" in Path("a.SVG").read_text()


def test_quiet_prints_nothing_but_json(folder):
    quiet = done("explain", "-m", folder, TEXT, "--quiet", "--html", "a.html", "-t", "is")
    assert quiet.output == ""
    assert Path("a.html").is_file()
    assert as_json("explain", "-m", folder, TEXT, "--quiet")["method"] == "attnlrp"


def test_a_forgotten_space_is_hinted_at(folder):
    assert 'hint: "is" was explained; " is", with a space' in done("explain", "-m", folder, TEXT, "-t", "is").stderr
    assert done("explain", "-m", folder, TEXT, "-t", " is", "-c", "is").stderr.count("hint") == 1
    assert done("explain", "-m", folder, TEXT, "-t", " is", "-c", " are").stderr == ""


@pytest.mark.parametrize(("likelihood", "hints"), [(0.06, 0), (0.04, 1)])
def test_a_token_that_is_about_as_likely_without_its_space_may_be_meant(explainer, likelihood, hints):
    attribution = replace(explainer.explain(TEXT, target="is"), prediction=((" is", 0.5), ("is", likelihood)))
    assert len(list(spacing_hints(["is"], attribution))) == hints


def test_it_is_silent_about_its_dependencies(folder, capfd):
    with pytest.raises(SystemExit):
        cli.app(["explain", "-m", str(folder), TEXT, "--json"])
    out, err = capfd.readouterr()
    assert json.loads(out)["method"] == "attnlrp"
    assert err == ""


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "no prompt was given"),
        ((TEXT, "--file", "prompt.txt"), "both given"),
        (("--file", "nowhere.txt"), "'nowhere.txt': No such file"),
        (("--file", "."), "'.': Is a directory"),
        (("prompt.txt",), "--file prompt.txt"),
        (("--file", "latin1.txt"), "not UTF-8 text (byte 3)"),
        (("bro\udcffken",), "not valid UTF-8"),
        (("  ",), "is empty"),
        ((TEXT, "--method", "attn"), "attnlrp, attnlrp-vision, cp-lrp"),
        ((TEXT, "--method", "cp-lrp", "--method", "cp-lrp"), "given twice"),
        ((TEXT, "--target", " is the"), "2 tokens"),
        ((TEXT, "--position", "99"), "outside the text"),
        ((TEXT, "--span", " is", "--target", " is"), "--span"),
        ((TEXT, "--span", " is", "--unit", "probability"), "--span"),
        ((TEXT, "--span", ""), "span"),
        ((TEXT, "--from-layer", "cp-lrp"), "N:METHOD"),
        ((TEXT, "--from-layer", "-1:cp-lrp"), "N:METHOD"),
        ((TEXT, "--from-layer", "1:cp"), "attnlrp, attnlrp-vision, cp-lrp"),
        ((TEXT, "--dtype", "int8"), "floating type"),
        ((TEXT, "--device", "abacus"), "device"),
        (("[1, 2]", "--chat"), "role and a content"),
        (('[{"role": "user"}]', "--chat"), "role and a content"),
        (("[The man]", "--chat"), "no JSON list"),
        (("[]", "--chat"), "empty list"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_in_one_line(folder, args, said):
    Path("prompt.txt").write_text(TEXT)
    Path("latin1.txt").write_bytes("caf\u00e9".encode("latin-1"))
    assert said in refusal("explain", "-m", folder, *args, "--json")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--html", "nowhere/a.html"), "there is no folder 'nowhere'"),
        (("--save", "taken"), "it is a folder"),
        (("--plot", "a.xyz"), ".png, .pdf, .svg"),
        (("--html", "a.html", "--method", "attnlrp", "--method", "cp-lrp"), "--html takes one method"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_the_model_is_loaded(args, said):
    Path("taken").mkdir()
    assert said in refusal("explain", "-m", "./nowhere", TEXT, *args)


def test_an_error_while_writing_is_one_line_and_leaves_nothing(folder, monkeypatch, tmp_path):
    def full(source, destination):
        raise OSError(28, "No space left on device", str(destination))

    monkeypatch.setattr("apportion.core._files.os.replace", full)
    assert "'a.html': No space left" in refusal("explain", "-m", folder, TEXT, "--html", "a.html")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_folder_is_looked_for_aloud():
    result = run("explain", "-m", "nobody/nothing", TEXT)
    assert result.exit_code == 2
    said, error = result.stderr.splitlines()
    assert "looking for 'nobody/nothing'" in said
    assert error.startswith("error: 'nobody/nothing' is no folder here")


def test_a_missing_model_is_refused():
    assert "there is no folder" in refusal("explain", "-m", "./nowhere", TEXT)
    assert "there is no folder" in refusal("audit", "-m", "./nowhere", TEXT)


@pytest.mark.parametrize("args", [("explain", TEXT), ("explain", "-m", "x", TEXT, "--unit", "bits"), ("nonsense",)])
def test_a_command_that_cannot_be_parsed_ends_with_2(args):
    result = run(*args)
    assert result.exit_code == 2
    assert "Usage: apportion" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["explain", "audit"])
def test_an_unknown_operation_ends_with_1(folder, monkeypatch, command):
    forward = modeling_llama.LlamaMLP.forward
    monkeypatch.setattr(modeling_llama.LlamaMLP, "forward", lambda self, x: torch.special.i0e(forward(self, x)))
    assert "model.layers.2.mlp" in refusal(command, "-m", folder, TEXT, code=1)


def test_an_interrupt_ends_with_130(folder, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(apportion.Explainer, "compare", interrupted)
    result = run("explain", "-m", folder, TEXT, "--html", "a.html")
    assert result.exit_code == 130
    assert result.stderr == "interrupted\n"
    assert not Path("a.html").exists()


def test_the_audit_merges_layers_and_gives_its_verdict(folder):
    shown = done("audit", "-m", folder, TEXT).stdout
    assert "model.layers.*.mlp.act_fn" in shown
    assert "model.layers.1" not in shown
    assert "✓ every promised rule was applied" in shown
    assert "model.layers.1.mlp.act_fn" in done("audit", "-m", folder, TEXT, "--all").stdout


def test_the_audit_shows_where_another_method_begins(folder):
    shown = done("audit", "-m", folder, TEXT, "--from-layer", "2:cp-lrp").stdout
    assert "model.layers.0-1.mlp" in shown
    assert "model.layers.2.mlp" in shown


def test_the_audit_as_json_has_every_row(folder, explainer):
    found = as_json("audit", "-m", folder, TEXT, "--method", "cp-lrp", "--target", " are")
    expected = explainer.audit(TEXT, method="cp-lrp", target=" are")
    assert found["rows"] == [vars(row) for row in expected.rows]
    assert found["composite"]["name"] == "cp-lrp"
    assert found["missing"] == []
    assert done("audit", "-m", folder, TEXT, "--quiet").output == ""


def test_audits_and_comparisons_are_written_too(folder, explainer):
    done("audit", "-m", folder, TEXT, "--html", "a.html", "--save", "a.safetensors")
    audit = apportion.Audit.load("a.safetensors")
    assert audit == explainer.audit(TEXT)
    assert Path("a.html").read_text() == audit.to_html()
    done("compare", "-m", folder, TEXT, "--method", "attnlrp,cp-lrp", "--save", "c.safetensors")
    assert list(apportion.Comparison.load("c.safetensors")) == ["attnlrp", "cp-lrp"]


def test_a_broken_promise_ends_with_1(folder, monkeypatch):
    monkeypatch.setattr(modeling_llama.LlamaRMSNorm, "forward", lambda self, x: self.weight * x)
    assert "attnlrp promises norm frozen" in refusal("audit", "-m", folder, TEXT, code=1)
    shown = run("audit", "-m", folder, TEXT).stdout
    assert "✗ 7 promises were broken:" in shown
    assert len(json.loads(run("audit", "-m", folder, TEXT, "--json").stdout)["missing"]) == 7
