"""Agreement at every layer: removal against one hook at a time, relevance against autograd and the engine's sites."""

from __future__ import annotations

import gc
import math
import weakref
from functools import cache, partial

import pytest
import torch
from scipy import stats
from torch.testing import assert_close
from transformers import BloomConfig, BloomForCausalLM

from apportion import ApportionError, Explainer
from apportion.evaluation import Case, Item, LayerAgreement, Random, as_measure
from apportion.evaluation._layers import Stack, _mean, stack_of
from apportion.methods import as_method
from apportion.relevance import ATTNLRP, CP_LRP, GRADIENT, record
from tests.checking import unchecked
from tests.reference import literal_layer_leave_one_out as literal
from tests.tiny import CAUSAL, InFloat64, build, tiny, tokenizer, with_random_weights

TEXT = "The man who owns the dogs"
MASKED = "The man who [MASK] the dogs"
LISTS = {"llama": "model.layers", "gpt2": "transformer.h", "bert": "bert.encoder.layer"}
TARGET, OTHER = 11, 20


@pytest.fixture(autouse=True)
def in_float64():
    with InFloat64():
        yield


@cache
def explainer(name: str = "llama") -> Explainer:
    kind = {"bert": "masked", "t5": "seq2seq"}.get(name, "causal")
    return Explainer(tiny(name), tokenizer(kind))


def case_of(name: str = "llama", *methods: str, own: Explainer | None = None) -> Case:
    prompt = MASKED if name == "bert" else TEXT
    item = Item(id="a", prompt=prompt, target=TARGET, contrast=OTHER)
    return Case(own or explainer(name), item, methods=[as_method(method) for method in methods])


def literally(name: str):
    """The model, its inputs, its layers and the target as a function of its logits."""
    own = explainer(name)
    ids = own.processor(MASKED if name == "bert" else TEXT).input_ids
    row = ids.index(own.processor.mask_token_id) if name == "bert" else len(ids) - 1
    layers = list(own.model.get_submodule(LISTS[name]))
    return (
        own.model,
        {"input_ids": torch.tensor([ids])},
        layers,
        lambda logits: logits[row, TARGET] - logits[row, OTHER],
    )


def places_of(case: Case) -> list[int]:
    return [i for group in case.players.groups for i in group]


def stack(case: Case) -> Stack:
    found = stack_of(case.task)
    assert found is not None
    return found


@pytest.mark.parametrize("spreads", [True, False])
@pytest.mark.parametrize("absence", ["zero", "mean"])
@pytest.mark.parametrize("name", list(LISTS))
def test_removal_is_what_one_hook_at_a_time_does(name, absence, spreads):
    model, inputs, layers, target = literally(name)
    case = case_of(name)
    found, places = stack(case), places_of(case)
    found._spreads = spreads
    for k, layer in enumerate(layers):
        expected = [literal.drop(model, inputs, layer, i, target, absence) for i in places]
        assert max(abs(x) for x in expected) > 1e-3
        assert_close(found.drops(k, places, absence=absence).tolist(), expected, rtol=1e-9, atol=1e-10)


def test_removal_in_several_batches_is_the_same(monkeypatch):
    case = case_of()
    whole = stack(case).drops(1, places_of(case), absence="zero")
    monkeypatch.setattr("apportion.evaluation._layers.TOKENS_AT_ONCE", 27)
    assert_close(stack(case).drops(1, places_of(case), absence="zero"), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", list(LISTS))
def test_relevance_without_rules_is_input_times_gradient(name):
    model, inputs, layers, target = literally(name)
    expected = [literal.input_times_gradient(model, inputs, layer, target) for layer in layers]
    assert_close(stack(case_of(name)).relevance(GRADIENT).tolist(), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("composite", [ATTNLRP, CP_LRP], ids=lambda composite: composite.name)
@pytest.mark.parametrize("name", list(LISTS))
def test_relevance_is_what_the_engine_finds_where_the_layer_before_ends(name, composite):
    case = case_of(name)
    found = stack(case)
    relevance = found.relevance(composite)
    for k in range(1, len(found.paths)):
        task = case.task
        trace = record(task.head.model, task.inputs, site=found.paths[k - 1])
        logits = trace.output.logits
        seed = torch.zeros(1, *logits.shape, dtype=logits.dtype)
        row = task.rows[0][0][0] if logits.shape[1] > 1 else 0
        seed[0, 0, row, TARGET], seed[0, 0, row, OTHER] = 1, -1
        gradient = trace.propagate(logits, seed, composite, ledger=False).gradients[found.paths[k - 1]]
        site = trace.recording.site
        assert site is not None
        assert_close(relevance[k], (site.value * gradient[0]).sum(-1)[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", ["attnlrp", "cp-lrp", "input-x-gradient", "gim"])
def test_relevance_at_the_first_layer_is_the_tokens_own(method):
    # Llama's first layer reads the token embeddings themselves.
    case = case_of("llama", method)
    chosen = as_method(method)
    relevance = stack(case).relevance(chosen.composite)
    assert_close(relevance[0], case.attribution(chosen).scores.double(), rtol=1e-9, atol=1e-12)


def test_a_conserving_recipe_conserves_at_every_layer():
    case = case_of()
    total = stack(case).relevance(CP_LRP).sum(-1)
    assert_close(total, torch.full_like(total, case.task.target_values.values[0][0]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", list(LISTS))
def test_the_measure_correlates_relevance_with_removal_layer_by_layer(name):
    model, inputs, layers, target = literally(name)
    case = case_of(name, "input-x-gradient")
    method = as_method("input-x-gradient")
    found = LayerAgreement(absence="mean").of(case, case.attribution(method), method)
    spearman, pearson = [], []
    for layer in layers:
        relevance = literal.input_times_gradient(model, inputs, layer, target)
        places = places_of(case)
        removed = [literal.drop(model, inputs, layer, i, target, "mean") for i in places]
        spearman.append(stats.spearmanr([relevance[i] for i in places], removed).statistic)
        pearson.append(stats.pearsonr([relevance[i] for i in places], removed).statistic)
    assert found["layer_spearman"] == pytest.approx(spearman)
    assert found["layer_pearson"] == pytest.approx(pearson)
    assert found["layer_spearman_mean"] == pytest.approx(sum(spearman) / len(layers))
    assert found["layer_pearson_mean"] == pytest.approx(sum(pearson) / len(layers))
    assert set(found) == {column.name for column in LayerAgreement.columns}


def test_removal_runs_once_for_all_methods(monkeypatch):
    case = case_of("llama", "attnlrp", "cp-lrp")
    runs = []
    drops = Stack.drops
    monkeypatch.setattr(
        Stack, "drops", lambda self, layer, *a, **k: (runs.append(layer), drops(self, layer, *a, **k))[1]
    )
    measure = as_measure("layer-agreement")
    found = [measure.of(case, case.attribution(as_method(name)), as_method(name)) for name in ("attnlrp", "cp-lrp")]
    assert runs == [0, 1]
    assert found[0]["layer_pearson"] != found[1]["layer_pearson"]
    # Relevance propagated again over the same trace is the same.
    again = measure.of(case, case.attribution(as_method("attnlrp")), as_method("attnlrp"))
    assert again["layer_pearson"] == pytest.approx(found[0]["layer_pearson"])


@pytest.mark.parametrize(
    ("layers", "chosen"),
    [(1, [0]), (2, [0, 11]), (3, [0, 6, 11]), (99, list(range(12))), ((4, 1), [1, 4])],
)
def test_layers_are_spread_evenly_or_named(layers, chosen):
    assert LayerAgreement(layers=layers)._chosen(12) == chosen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("layers=0", "layers=0"),
        ("layers=()", "layers"),
        ("layers=(-1,)", "layers"),
        ("absence='key'", "'zero' or 'mean'"),
    ],
)
def test_refuses_options_that_do_not_fit(options, message):
    with unchecked(), pytest.raises(ApportionError, match=message):
        as_measure(f"layer-agreement({options})")


def test_refuses_a_layer_that_is_not_there():
    case = case_of("llama", "attnlrp")
    with pytest.raises(ApportionError, match="2 layers, 0 to 1"):
        LayerAgreement(layers=(2,)).of(case, case.attribution(as_method("attnlrp")), as_method("attnlrp"))


@pytest.mark.parametrize("method", [as_method("leave-one-out"), as_method("gradient"), Random()], ids=lambda m: m.name)
def test_is_not_defined_for_methods_without_relevance_inside(method):
    case = case_of("llama")
    found = LayerAgreement().of(case, case.attribution(method), method)
    assert set(found) == {"layer_spearman_mean", "layer_pearson_mean"}
    assert all(math.isnan(value) for value in found.values())


@pytest.mark.parametrize("layers", [2, 3])
def test_is_not_defined_for_an_encoder_and_a_decoder(layers):
    own, method = Explainer(build("t5", num_decoder_layers=layers), tokenizer("seq2seq")), as_method("attnlrp")
    prompt = {"input_ids": torch.tensor([[9, 10, 11, 12]]), "decoder_input_ids": torch.tensor([[1, 12, 13, 14]])}
    case = Case(own, Item(id="a", prompt=prompt, target=TARGET), methods=[method])
    assert math.isnan(LayerAgreement().of(case, case.attribution(method), method)["layer_pearson_mean"])


def test_relevance_that_arrives_nowhere_is_0(monkeypatch):
    found = stack(case_of())
    assert found.relevance(GRADIENT).all()
    monkeypatch.setattr(found._recorded.trace, "propagate", lambda *a, **k: None)
    assert not found.relevance(GRADIENT).any()


def test_layers_where_nothing_correlates_are_left_out_of_the_mean():
    assert _mean([math.nan, 0.5, 1.0]) == 0.75
    assert math.isnan(_mean([math.nan]))


def test_serves_a_model_without_attention():
    case = case_of("mamba", "input-x-gradient")
    method = as_method("input-x-gradient")
    found = LayerAgreement().of(case, case.attribution(method), method)
    assert len(found["layer_pearson"]) == 2
    assert not math.isnan(found["layer_pearson_mean"])


def test_a_model_that_holds_on_to_the_size_of_its_batch_reads_every_copy_whole():
    fields = {"vocab_size": CAUSAL["vocab_size"], "hidden_size": 16, "n_layer": 2, "n_head": 4}
    model = with_random_weights(BloomForCausalLM(BloomConfig(**fields)))
    case = case_of("bloom", own=Explainer(model, tokenizer()))
    found = stack(case)
    assert not found._spreads
    ids = torch.tensor([tokenizer()(TEXT).input_ids])
    target = lambda logits: logits[-1, TARGET] - logits[-1, OTHER]  # noqa: E731
    expected = [
        literal.drop(model, {"input_ids": ids}, model.transformer.h[1], i, target, "zero") for i in places_of(case)
    ]
    assert_close(found.drops(1, places_of(case), absence="zero").tolist(), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", list(LISTS))
def test_the_model_is_given_back_as_it_was(name):
    model, inputs, *_ = literally(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        logits = model(**inputs).logits
    case = case_of(name, "attnlrp")
    measure = partial(LayerAgreement().of, case, case.attribution(as_method("attnlrp")), as_method("attnlrp"))
    measure()
    with pytest.raises(ZeroDivisionError):
        stack(case)._values(0, 1, lambda hidden: hidden / (1 // 0), early=True)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, logits)


def test_nothing_is_kept_once_the_case_is_gone():
    case = case_of("llama", "attnlrp")
    LayerAgreement().of(case, case.attribution(as_method("attnlrp")), as_method("attnlrp"))
    kept = weakref.ref(case._shared["stack"]._recorded.trace)
    assert kept() is not None
    del case
    gc.collect()
    assert kept() is None
