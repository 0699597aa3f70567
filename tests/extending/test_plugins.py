"""Whatever can be added is added by one file of a user's own, written as the page about extending shows it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import apportion as ap
from apportion.cli import app
from apportion.methods import load_plugin
from apportion.relevance import unregister_rule
from tests.extending.page import additions
from tests.registries import given_back
from tests.tiny import tiny, tokenizer

TEXT = "The man who owns the dogs"
IDS = [3, 1, 4]


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    known = set(sys.modules)
    with given_back():
        yield
    for name in set(sys.modules) - known:
        if name.startswith("apportion_plugin_"):
            del sys.modules[name]


@pytest.fixture
def explainer() -> ap.Explainer:
    return ap.Explainer(tiny("llama"), tokenizer("causal"))


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A model for the command line."""
    tiny("llama").save_pretrained(tmp_path / "llama")
    tokenizer("causal").save_pretrained(tmp_path / "llama")
    return str(tmp_path / "llama")


def written(what: str, folder: Path) -> Path:
    """The one file of the example, as many as the page's table says."""
    addition = additions()[what]
    assert len(addition.written) == addition.plugin == 1
    ((name, text),) = addition.written.items()
    (folder / name).write_text(text)
    return folder / name


def loaded(path: Path) -> ModuleType:
    load_plugin(path)
    return sys.modules[f"apportion_plugin_{path.stem}"]


def shell(*args: str) -> str:
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0, result.output
    return result.stdout


class Rows(nn.Module):
    """Logits of three classes: a row for each token, or their sum."""

    def __init__(self, between: Any = None) -> None:
        super().__init__()
        self.table, self.between = nn.Embedding(9, 3, dtype=torch.float64), between
        nn.init.normal_(self.table.weight, generator=torch.Generator().manual_seed(0))

    def forward(self, input_ids: Tensor) -> Any:
        hidden = self.table(input_ids)
        return SimpleNamespace(logits=hidden if self.between is None else self.between(hidden).sum(1))


class Tagger(Rows):
    """The name that the example's kind claims."""


def test_a_rule_for_an_operation(tmp_path: Path) -> None:
    double = loaded(written("a rule for an operation", tmp_path)).Double
    explainer = ap.Explainer(Rows(double.apply))
    found = explainer.explain(IDS, target=2)
    torch.testing.assert_close(found.scores, 2 * explainer.model.table.weight.detach()[IDS, 2])
    assert "doubled" in {row.rule for row in explainer.audit(IDS, target=2).rows}
    unregister_rule(double)
    with pytest.raises(ap.UnknownOperation, match="Double"):
        explainer.explain(IDS, target=2)


def test_a_named_rule(tmp_path: Path, explainer: ap.Explainer) -> None:
    with pytest.raises(ap.ApportionError, match="activation='still' is not known"):
        ap.Composite(activation="still")
    loaded(written("a named rule", tmp_path))
    rules = {row.kind: row.rule for row in explainer.audit(TEXT, method="attnlrp(activation='still')").rows}
    assert rules["activation"] == "held constant"
    moved = explainer.explain(TEXT, method="attnlrp(activation='still')").scores
    assert not torch.allclose(moved, explainer.explain(TEXT, method="attnlrp").scores)


def test_a_recipe(tmp_path: Path, explainer: ap.Explainer, folder: str) -> None:
    path = written("a recipe", tmp_path)
    found = shell("explain", "-m", folder, TEXT, "--plugin", str(path), "--method", "half-frozen", "--json")
    same = explainer.explain(TEXT, method=ap.Composite(product="uniform", norm="frozen"))
    assert json.loads(found)["method"] == "half-frozen"
    assert json.loads(found)["scores"] == pytest.approx(same.scores.tolist(), rel=1e-4, abs=1e-6)


def test_a_method(tmp_path: Path, folder: str) -> None:
    path = written("a method", tmp_path)
    found = json.loads(
        shell("explain", "-m", folder, TEXT, "--plugin", str(path), "--method", "recency(decay=0.5)", "--json")
    )
    assert found["scores"][-3:] == [0.25, 0.5, 1.0]
    assert "recency" in shell("methods", "--plugin", str(path))


def test_a_masker(tmp_path: Path, explainer: ap.Explainer) -> None:
    with pytest.raises(ap.ApportionError, match="there is no masker 'previous-token'"):
        ap.as_masker("previous-token")
    loaded(written("a masker", tmp_path))
    ids = [9, 10, 11, 12]
    found = explainer.explain(ids, target=4, method="leave-one-out(masker='previous-token')")
    with torch.no_grad():
        whole, without = explainer.model(input_ids=torch.tensor([ids, [9, 10, 10, 12]])).logits[:, -1, 4]
    assert found.scores[2].item() == pytest.approx((whole - without).item())
    assert found.options["masker"] == "previous-token"


def test_a_masker_s_name_is_taken_once(tmp_path: Path) -> None:
    loaded(written("a masker", tmp_path))
    with pytest.raises(ap.ApportionError, match="'previous-token' is taken by PreviousToken"):
        ap.register_masker("previous-token")(ap.Delete)


def test_a_measure(tmp_path: Path, folder: str, explainer: ap.Explainer) -> None:
    path = written("a measure", tmp_path)
    texts, out = tmp_path / "texts.txt", tmp_path / "found"
    texts.write_text(f"{TEXT}\n")
    measured = ("--plugin", str(path), "--method", "attnlrp", "--measure", "concentration", "--out", str(out))
    shell("evaluate", "-m", folder, "--data", str(texts), *measured)
    (value,) = [row.values["concentration"] for row in ap.Evaluation.load(out).rows if row.method == "attnlrp"]
    sizes = explainer.explain(TEXT, method="attnlrp").scores.abs()
    assert value == pytest.approx((sizes.max() / sizes.sum()).item())


def test_a_view(tmp_path: Path, folder: str, explainer: ap.Explainer) -> None:
    path = written("a view", tmp_path)
    assert ": mostly " in shell("explain", "-m", folder, TEXT, "--plugin", str(path))
    found = explainer.explain(TEXT)
    assert repr(found) == loaded(path).line(found)
    assert found.to_html().startswith("<!doctype html><title>Shares</title>")
    assert len(found.plot().axes[0].patches) == len(found.features)


def test_a_kind_of_model(tmp_path: Path) -> None:
    loaded(written("a kind of model", tmp_path))
    explainer = ap.Explainer(Tagger())
    rows = explainer.model.table.weight.detach()[IDS]
    assert explainer.explain(IDS, target=2).target.value == rows[0, 2].item()
    assert explainer.explain(IDS, target=2, position=1).target.value == rows[1, 2].item()


@pytest.mark.parametrize("method", ["attnlrp", "leave-one-out"])
def test_a_target(tmp_path: Path, explainer: ap.Explainer, method: str) -> None:
    lead = loaded(written("a target", tmp_path)).Lead()
    with torch.no_grad():
        logits = explainer.model(input_ids=torch.tensor([[5, 9, 2, 7]])).logits[0, -1]
    found = explainer.explain([5, 9, 2, 7], target=lead, method=method)
    assert found.target.value == pytest.approx((logits.max() - logits.mean()).item())
    assert found.target.label == "lead"
    if found.ledger is not None:
        assert found.ledger.residual.item() == pytest.approx(0, abs=1e-6)


def test_a_type_of_result(tmp_path: Path, explainer: ap.Explainer) -> None:
    halves = loaded(written("a type of result", tmp_path))
    found = explainer.explain(TEXT)
    made = halves.halves(found)
    middle = len(found.features) // 2
    torch.testing.assert_close(made.shares, torch.stack([found.scores[:middle].sum(), found.scores[middle:].sum()]))
    read = halves.Halves.load(made.save(tmp_path / "halves.safetensors"))
    assert torch.equal(read.shares, made.shares)
    assert read.unit == made.unit == "logit"
    assert read.to_dict() == {"shares": made.shares.tolist(), "unit": "logit"}
    assert repr(read) == halves.line(made)
    assert halves.line(made) in made.to_html()
    assert len(made.plot().axes[0].patches) == 2
