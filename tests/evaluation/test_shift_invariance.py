"""Shift invariance: the softmax's rule by hand, the two changes against autograd, and a method that is caught."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch.testing import assert_close
from transformers import AttentionInterface, GptOssConfig, GptOssForCausalLM

from apportion import ATTNLRP, ApportionError, Explainer, Method, Shares
from apportion.evaluation import Case, Item, as_measure
from apportion.evaluation._shift_invariance import change
from apportion.methods import as_method
from apportion.models.anatomy._attention import NAME, attention_through, raised_scores
from apportion.relevance import record
from tests.tiny import CAUSAL, InFloat64, Of, build, tiny, tokenizer, with_random_weights

TEXTS = {"llama": "The man who owns the dogs", "bert": "The man [MASK] the old dogs"}
ROUNDING = 1e-12


@pytest.fixture(autouse=True)
def in_float64():
    with InFloat64():
        yield


def case(name: str = "llama") -> Case:
    own = Explainer(tiny(name), tokenizer("masked" if name == "bert" else "causal"))
    return Case(own, Item(id="0", prompt=TEXTS.get(name, TEXTS["llama"])))


def found(method: str | Method, name: str = "llama", shift: float = 1.0) -> dict:
    at, method = case(name), as_method(method)
    return as_measure(f"shift-invariance(shift={shift})").of(at, at.attribution(method), method)


def relevance_of_input(x: torch.Tensor, weights: torch.Tensor, shift: float = 0.0) -> torch.Tensor:
    model = Of(lambda x, weights: ((x + shift if shift else x).softmax(-1) * weights).sum(-1), weights=weights)
    trace = record(model, {"x": x})
    propagated = trace.propagate(trace.output, torch.ones_like(trace.output)[None], ATTNLRP, ledger=False)
    return propagated.relevance["x"][0]


def test_a_shift_moves_the_relevance_of_a_softmaxs_input_by_c_times_r_minus_s_sum_r():
    x, weights = torch.tensor([[1.0, -2.0, 0.5]]).double(), torch.tensor([3.0, 1.0, -2.0]).double()
    s, c = x.softmax(-1), 0.7
    above = s * weights  # the relevance of the softmax's output
    by_hand = [[c * (above[0, i] - s[0, i] * above[0].sum()).item() for i in range(3)]]
    moved = relevance_of_input(x + c, weights) - relevance_of_input(x, weights)
    assert_close(moved, torch.tensor(by_hand).double())
    assert moved.abs().min() > 1e-3
    assert moved.sum().abs() < ROUNDING


def test_a_shift_that_the_model_adds_takes_its_own_share():
    x, weights = torch.tensor([[1.0, -2.0, 0.5]]).double(), torch.tensor([3.0, 1.0, -2.0]).double()
    assert_close(relevance_of_input(x, weights, shift=0.7), relevance_of_input(x, weights))


@pytest.mark.parametrize("name", ["llama", "bert"])
@pytest.mark.parametrize(
    "method", ["attnlrp", "cp-lrp", "input-x-gradient", "gradient", "rollout", "alti-logit", "leave-one-out"]
)
def test_shares_of_tokens_do_not_move(name, method):
    assert found(method, name)["shift_change"] < ROUNDING


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_relevance_at_the_scores_moves_unless_the_softmax_is_cut(name):
    assert found("cp-lrp", name)["shift_change_at_scores"] == 0
    once, twice = (found("attnlrp", name, shift)["shift_change_at_scores"] for shift in (1.0, 2.0))
    assert once > 0.1
    assert twice == pytest.approx(2 * once)
    assert found("gradient", name)["shift_change_at_scores"] != found("gradient", name)["shift_change_at_scores"]


def test_the_change_at_the_scores_is_the_shift_times_the_derivative():
    at, held = case(), []

    def attend(heads):
        held.append(heads.scores())
        return heads.mixed(heads.probabilities(held[-1])), None

    with attention_through(at.engine.model, attend):
        ids = at.task.inputs["input_ids"]
        value = at.engine.model(input_ids=ids).logits[0, -1].max()
    derivatives = torch.autograd.grad(value, held)
    expected = 0.3 * sum(float(d.abs().sum()) for d in derivatives)
    expected /= sum(float((s * d).detach().abs().sum()) for s, d in zip(held, derivatives, strict=True))
    assert found("input-x-gradient", shift=0.3)["shift_change_at_scores"] == pytest.approx(expected)


@dataclass(frozen=True, kw_only=True)
class FirstScores(Method):
    """The scores that the first head of the first layer gives to each token, read at the last."""

    name = "first-scores"

    def attribute(self, task):
        held = []

        def attend(heads):
            held.append(heads.scores())
            return heads.mixed(heads.probabilities(held[-1])), None

        with attention_through(task.head.model, attend), torch.no_grad():
            task.head.model(**task.inputs)
        return Shares(scores=[held[0][:, 0, -1]])


def test_a_method_that_reads_scores_is_caught():
    at = case()
    players = at.players.columns
    before = at.attribution(FirstScores()).scores[list(players)]
    expected = 0.5 * len(players) / float(before.abs().sum())
    assert found(FirstScores(), shift=0.5)["shift_change"] == pytest.approx(expected)


def test_a_sink_is_raised_with_the_scores():
    config = GptOssConfig(**{**CAUSAL, "num_local_experts": 2, "num_experts_per_tok": 1, "layer_types": None})
    config._attn_implementation = config._experts_implementation = "eager"
    model = with_random_weights(GptOssForCausalLM(config))
    ids = torch.tensor([[9, 10, 11, 12]])

    def written_out(heads):
        assert "s_aux" in heads.options
        probabilities = heads.probabilities()
        return heads.mixed(probabilities), probabilities

    values = []
    for shift in (0.0, 2.0):
        with attention_through(model, written_out), raised_scores(shift), torch.no_grad():
            values.append(model(input_ids=ids).logits)
    assert_close(values[0], values[1], rtol=1e-9, atol=1e-9)


def test_one_function_of_attention_may_stand_within_another():
    model, calls = build("llama"), []

    def named(name):
        def attend(heads):
            calls.append(name)
            return heads.mixed(heads.probabilities()), None

        return attend

    before = model.config._attn_implementation
    ids = torch.tensor([[9, 10, 11]])
    with attention_through(model, named("outer")):
        with attention_through(model, named("inner")):
            model(input_ids=ids)
        model(input_ids=ids)
    assert calls == ["inner", "inner", "outer", "outer"]
    assert model.config._attn_implementation == before
    assert NAME not in AttentionInterface._global_mapping


def test_a_model_without_such_attention_is_refused():
    with pytest.raises(ApportionError, match="scores cannot be raised"):
        found("input-x-gradient", "mamba")


def linear(module, query, key, value, attention_mask, scaling, **options):
    return ((query @ key.transpose(-1, -2)).tril() @ value).transpose(1, 2).contiguous(), None


def test_a_model_whose_attention_is_no_softmax_is_refused():
    AttentionInterface.register("linear-for-a-test", linear)
    try:
        own = Explainer(
            build("llama", attn_implementation="linear-for-a-test", num_key_value_heads=4), tokenizer("causal")
        )
        at, method = Case(own, Item(id="0", prompt=TEXTS["llama"])), as_method("input-x-gradient")
        attribution = at.attribution(method)
        with pytest.raises(ApportionError, match="no softmax of scores"):
            as_measure("shift-invariance").of(at, attribution, method)
    finally:
        AttentionInterface._global_mapping.pop("linear-for-a-test")


@pytest.mark.parametrize(
    ("before", "after", "expected"), [([1, -3], [2, -3], 0.25), ([0, 0], [0, 0], 0), ([0, 0], [1, 0], float("inf"))]
)
def test_a_change_is_a_part_of_what_was_there(before, after, expected):
    assert change(torch.tensor(before).double(), torch.tensor(after).double()) == expected


@pytest.mark.parametrize("shift", [0, "float('inf')", "1e999"])
def test_no_shift_is_refused(shift):
    with pytest.raises(ApportionError, match="shift"):
        as_measure(f"shift-invariance(shift={shift})")
