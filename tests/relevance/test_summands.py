"""Summands that the first forward pass kept, against those of a second pass."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    SwinConfig,
    SwinForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from apportion import Explainer, ResLRP
from apportion.relevance import ATTNLRP, RES_LRP, Composite, Propagated, Trace, record
from tests.tiny import InFloat64, Of, inputs_of, tiny, tokenizer, with_random_weights

VIT = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 4}
SWIN = {"embed_dim": 8, "depths": [2, 1], "num_heads": [2, 4], "window_size": 2}
PICTURES = {"image_size": 16, "patch_size": 4, "num_labels": 3}
MODELS = ("vit", "swin", "bert_classifier", "llama", "gpt2")


@pytest.fixture(autouse=True)
def in_float64():
    with InFloat64():
        yield


@cache
def model_of(name: str) -> PreTrainedModel:
    if name == "vit":
        return with_random_weights(ViTForImageClassification(ViTConfig(**VIT, **PICTURES)))
    if name == "swin":
        return with_random_weights(SwinForImageClassification(SwinConfig(**SWIN, **PICTURES)))
    return tiny(name)


def batch_for(name: str) -> dict[str, Tensor]:
    """Inputs of two examples."""
    if name in ("vit", "swin"):
        return {"pixel_values": torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()}
    rows = [inputs_of(name, seed=seed) for seed in (0, 1)]
    return {**rows[0], "input_ids": torch.cat([row["input_ids"] for row in rows])}


def propagated(trace: Trace, composite: Composite, *, ledger: bool = True) -> Propagated:
    """Relevance of two targets, each with a place in both examples."""
    output = getattr(trace.output, "logits", trace.output)
    seeds = torch.zeros(2, *output.shape, dtype=output.dtype)
    seeds[0, :, ..., 0] = 1
    seeds[1, :, ..., -1] = -2
    return trace.propagate(output, seeds, composite, ledger=ledger)


def equal(one: Propagated, other: Propagated) -> bool:
    same = all(torch.equal(one.relevance[leaf], other.relevance[leaf]) for leaf in {**one.relevance, **other.relevance})
    if one.ledger is None or other.ledger is None:
        return same and one.ledger is other.ledger
    assert one.ledger.lines.keys() == other.ledger.lines.keys()
    return same and all(torch.equal(amount, other.ledger.lines[line]) for line, amount in one.ledger.lines.items())


@pytest.mark.parametrize("composite", [RES_LRP, ResLRP(gamma=0.3, modules="*1*").composite], ids=["all", "some"])
@pytest.mark.parametrize("name", MODELS)
def test_summands_of_the_first_pass_give_what_those_of_a_second_do(name, composite):
    model, inputs = model_of(name), batch_for(name)
    first, second = record(model, inputs, summands=True), record(model, inputs)
    for trace in (first, second):
        propagated(trace, ATTNLRP, ledger=False)
    ledger = name != "swin"  # a ledger needs a second pass there, for the masks of shifted windows
    expected = propagated(second, composite, ledger=ledger)
    for _ in range(2):
        assert equal(propagated(first, composite, ledger=ledger), expected)
        propagated(first, ATTNLRP, ledger=False)
    assert (first.repeated, second.repeated) == (0, 1)
    assert equal(propagated(first, composite), propagated(second, composite))


@pytest.mark.parametrize("name", MODELS)
def test_keeping_summands_does_not_change_what_the_model_computes(name):
    model, inputs = model_of(name), batch_for(name)
    kept, plain = record(model, inputs, summands=True), record(model, inputs)
    assert torch.equal(kept.output.logits, plain.output.logits)
    assert equal(propagated(kept, ATTNLRP), propagated(plain, ATTNLRP))


class _Residual(nn.Module):
    """x + f(x), written in one of many ways."""

    def __init__(self, add: Any) -> None:
        super().__init__()
        self.add = add
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("weight", torch.randn(3, 3, generator=generator).double())

    def forward(self, x: Tensor) -> Tensor:
        return self.add(x, x.tanh() @ self.weight)


def _later_overwritten(x: Tensor, branch: Tensor) -> Tensor:
    y = x + branch
    with torch.no_grad():
        branch.mul_(2)
    return y


def _view_overwritten(x: Tensor, branch: Tensor) -> Tensor:
    y = branch.view(-1).view(branch.shape) + x
    with torch.no_grad():
        branch[0] = 0
    return y


def _beside_sums_without_a_graph(x: Tensor, branch: Tensor) -> Tensor:
    y = x - branch
    with torch.no_grad():
        assert (x + x).isfinite().all()
    return y


def _in_place(x: Tensor, branch: Tensor) -> Tensor:
    return branch.add_(x, alpha=3)


def _in_place_twice(x: Tensor, branch: Tensor) -> Tensor:
    branch -= x
    branch += 2 * x
    return branch


WAYS = {
    "plain": (lambda x, branch: x + branch, 0),
    "by name": (lambda x, branch: torch.sub(input=x, other=branch, alpha=2), 0),
    "in place": (_in_place, 0),
    "in place twice": (_in_place_twice, 0),
    "without a graph beside": (_beside_sums_without_a_graph, 0),
    "overwritten later": (_later_overwritten, 1),
    "a view overwritten later": (_view_overwritten, 1),
}


@pytest.mark.parametrize("way", list(WAYS))
def test_a_summand_that_was_overwritten_is_never_read(way):
    add, repeated = WAYS[way]
    model, x = _Residual(add), torch.randn(2, 3, generator=torch.Generator().manual_seed(2)).double()
    first, second = record(model, {"x": x}, summands=True), record(model, {"x": x})
    found, expected = propagated(first, RES_LRP), propagated(second, RES_LRP)
    assert equal(found, expected)
    assert not torch.allclose(found.relevance["x"], propagated(second, ATTNLRP).relevance["x"])
    assert first.repeated == repeated
    assert (found.ledger.relative_residual < 1e-12).all()


def test_only_residual_sums_stay_in_memory():
    trace = record(model_of("llama"), batch_for("llama"), summands=True)
    nodes = trace._graph([trace.output.logits]).nodes
    before = len(trace.summands.of(nodes, range(len(nodes))))
    propagated(trace, ATTNLRP, ledger=False)
    assert len(trace.summands.of(nodes, range(len(nodes)))) == before
    propagated(trace, RES_LRP, ledger=False)
    residual = sum(row.count for row in trace.audit(trace.output.logits, RES_LRP).rows if row.kind == "residual")
    assert len(trace.summands.of(nodes, range(len(nodes)))) == residual == 4
    assert before == residual + 4  # two layers that turn queries and keys


def test_nothing_is_kept_where_no_tensors_of_one_shape_are_added():
    trace = record(Of(lambda x: (x + 1).tanh() + x.sum()), {"x": torch.randn(3).double()}, summands=True)
    nodes = trace._graph([trace.output]).nodes
    assert trace.summands.of(nodes, range(len(nodes))) == {}


@pytest.mark.parametrize("method", ["res-lrp", "attnlrp"])
def test_an_explainer_keeps_them_for_the_methods_that_ask(method, monkeypatch):
    asked: list[bool] = []

    def noted(*arguments: Any, summands: bool = False, **options: Any) -> Trace:
        asked.append(summands)
        return record(*arguments, summands=summands, **options)

    monkeypatch.setattr("apportion.task._task.record", noted)
    found = list(Explainer(tiny("gpt2"), tokenizer("causal")).explain_many(["The man owns", "The dog"], method=method))
    assert asked == [method == "res-lrp"] * len(asked)
    assert asked
    assert all(attribution.cost.forward == 0 for attribution in found)  # besides the pass that all methods share
