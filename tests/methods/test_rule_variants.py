"""Variants of LRP against passes written by hand, and what each promises."""

from __future__ import annotations

from functools import cache, partial

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import LlamaForCausalLM, MambaForCausalLM

from apportion import (
    GIM,
    PALRP,
    ApportionError,
    AttnLRP,
    Attribution,
    Explainer,
    MambaLRP,
    RelP,
    ResLRP,
    RuleNotApplied,
    Span,
)
from apportion.methods import METHODS, Method, as_method, required_options
from apportion.relevance import ATTNLRP, RELP, record
from tests.reference.literal_variants import Rules, literal_llama, literal_mamba
from tests.tiny import InFloat64, build, tiny, tokenizer

TEXT = "The man who owns the dogs"
CORRUPT = "The cat who owns the dogs"
TARGET = 11
KINDS = {"bert": "masked", "bert_classifier": "masked", "t5": "seq2seq", "bart": "seq2seq"}
exact = partial(assert_close, rtol=1e-10, atol=1e-12)


@pytest.fixture(autouse=True)
def in_float64():
    with InFloat64():
        yield


@cache
def explainer(name: str) -> Explainer:
    return Explainer(tiny(name), tokenizer(KINDS.get(name, "causal")))


def explained(name: str, method: Method | str, target: int = TARGET, text: str = TEXT) -> Attribution:
    return explainer(name).explain(text, method=method, target=min(target, 1) if "class" in name else target)


def ids(name: str, text: str = TEXT) -> Tensor:
    return explainer(name).processor(text, return_tensors="pt").input_ids[0]


def llama_by_hand(text: str = TEXT, **rules: object):
    model = tiny("llama")
    assert isinstance(model, LlamaForCausalLM)
    return literal_llama(model, ids("llama", text), TARGET, Rules(**rules))


def balanced(found: Attribution) -> bool:
    return bool((found.ledger.relative_residual < 1e-11).all())


def test_the_pass_by_hand_computes_the_models_own_logit_and_attnlrp():
    by_hand = llama_by_hand()
    assert by_hand.target.item() == pytest.approx(explained("llama", "attnlrp").target.value, rel=1e-12)
    exact(explained("llama", "attnlrp").scores, by_hand.tokens())


@pytest.mark.parametrize("gamma", [0.3, 1.0])
def test_res_lrp_is_its_equation(gamma):
    exact(explained("llama", ResLRP(gamma=gamma)).scores, llama_by_hand(residual=gamma).tokens())


@pytest.mark.parametrize("name", ["llama_with_biases", "gpt2", "gemma2", "qwen2_moe", "mamba", "bert_classifier", "t5"])
def test_res_lrp_conserves_exactly_and_is_attnlrp_without_gamma(name):
    found, plain = explained(name, "res-lrp"), explained(name, "attnlrp")
    assert balanced(found)
    assert not torch.allclose(found.scores, plain.scores, rtol=1e-3)
    exact(explained(name, ResLRP(gamma=0.0)).scores, plain.scores)


@pytest.mark.parametrize(("name", "sums"), [("llama", 4), ("gpt2", 4), ("mamba", 2), ("bert", 4), ("t5", 10)])
def test_residual_sums_are_those_of_branches_and_no_others(name, sums):
    text = f"{TEXT} [MASK]" if name == "bert" else TEXT
    audit = explainer(name).audit(text, method="res-lrp").check()
    assert sum(row.count for row in audit.rows if row.kind == "residual") == sums


def test_res_lrp_may_be_kept_to_some_modules():
    upper = explained("llama", ResLRP(modules="model.layers.1"))
    audit = explainer("llama").audit(TEXT, method=ResLRP(modules="model.layers.1"))
    assert [row.module for row in audit.rows if row.kind == "residual"] == ["model.layers.1"]
    assert balanced(upper)
    with pytest.raises(RuleNotApplied, match="vision"):
        explained("llama", ResLRP(modules="*vision*"))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.5])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_gim_is_its_definition_however_attention_is_computed(temperature, attention):
    model = build("llama", attn_implementation=attention)
    found = Explainer(model, tokenizer()).explain(TEXT, method=GIM(temperature=temperature), target=TARGET)
    exact(found.scores, llama_by_hand(temperature=temperature, activation="gradient").tokens())
    assert balanced(found)


def test_gim_divides_by_what_tempers_the_softmax_only():
    plain = AttnLRP(activation="gradient")
    for name in ("llama", "gpt2", "bert_classifier", "mixtral"):
        exact(explained(name, GIM(temperature=1)).scores, explained(name, plain).scores)
        assert not torch.allclose(explained(name, "gim").scores, explained(name, plain).scores, rtol=1e-3)


def test_gim_subtracts_a_baseline_and_books_its_share():
    by_hand = llama_by_hand(temperature=2.0, activation="gradient")
    table = tiny("llama").get_input_embeddings().weight.detach()
    found = explained("llama", GIM(baseline="mean"))
    exact(found.scores, ((by_hand.embeddings - table.mean(0)) * by_hand.gradient(by_hand.embeddings)).sum(-1).detach())
    assert balanced(found)
    assert found.ledger.lines["tokens"].item() == pytest.approx(found.scores.sum().item())
    own = explained("llama", GIM(baseline=ids("llama")[1].item()))
    assert own.scores[1].item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("act", ["gelu_new", "gelu", "relu", "silu"])
def test_gim_keeps_an_activations_own_derivative_also_where_it_is_written_out(act):
    model = build("gpt2", activation_function=act)
    method = AttnLRP(attention="gradient", product="uniform", activation="gradient", norm="gradient")
    found = Explainer(model, tokenizer()).explain(TEXT, method=method, target=TARGET)
    plain = Explainer(model, tokenizer()).explain(TEXT, method="input-x-gradient", target=TARGET)
    exact(found.scores, plain.scores)


def test_mamba_lrp_holds_the_scans_parameters_and_attnlrp_shares_with_them():
    model = tiny("mamba")
    assert isinstance(model, MambaForCausalLM)
    held = literal_mamba(model, ids("mamba"), TARGET, held=True)
    assert held.target.item() == pytest.approx(explained("mamba", "mamba-lrp").target.value, rel=1e-12)
    exact(explained("mamba", "mamba-lrp").scores, held.tokens())
    exact(explained("mamba", "attnlrp").scores, literal_mamba(model, ids("mamba"), TARGET, held=False).tokens())
    assert not torch.allclose(explained("mamba", "attnlrp").scores, held.tokens(), rtol=1e-3)
    assert balanced(explained("mamba", "mamba-lrp"))


def test_pa_lrp_gives_cosines_and_sines_their_half():
    by_hand, found = llama_by_hand(rotation=True), explained("llama", "pa-lrp")
    exact(found.scores, by_hand.tokens())
    exact(found.position_scores, by_hand.positions())
    assert balanced(found)
    assert found.ledger.lines["positions"].item() == pytest.approx(found.position_scores.sum().item())


def test_pa_lrp_is_attnlrp_where_positions_are_learned():
    for name in ("gpt2", "bert_classifier"):
        found, plain = explained(name, "pa-lrp"), explained(name, "attnlrp")
        exact(found.scores, plain.scores)
        exact(found.position_scores, plain.position_scores)


def test_pa_lrp_credits_relative_biases_to_the_keys_place():
    found = explained("t5", "pa-lrp")
    exact(found.scores, explained("t5", "attnlrp").scores)
    assert found.ledger.lines["positions"].item() == pytest.approx(found.position_scores.sum().item())
    assert balanced(found)


@pytest.mark.parametrize("name", ["gemma2", "mixtral", "qwen2"])
def test_pa_lrp_finds_rotations_of_other_models(name):
    found = explained(name, "pa-lrp")
    assert (found.position_scores != 0).any()
    assert balanced(found)


def test_pa_lrp_of_several_prompts_and_targets_is_each_alone():
    texts = [TEXT, "the cat sees"]
    together = explainer("llama").explain_many(texts, method="pa-lrp", target=[TARGET, 20], batch_size=2)
    for text, one in zip(texts, together, strict=True):
        for k, target in enumerate((TARGET, 20)):
            alone = explained("llama", "pa-lrp", target, text)
            exact(one.scores[k], alone.scores)
            exact(one.position_scores[k], alone.position_scores)


def test_relp_is_the_change_times_the_rules_gradient():
    by_hand = llama_by_hand(temperature=None)
    change = by_hand.embeddings - llama_by_hand(CORRUPT).embeddings
    expected = (change * by_hand.gradient(by_hand.embeddings)).sum(-1).detach()
    found = explained("llama", RelP(corrupt=CORRUPT))
    exact(found.scores, expected)
    same = ids("llama") == ids("llama", CORRUPT)
    assert bool((found.scores[same] == 0).all())
    assert bool((found.scores[~same] != 0).all())
    exact(explained("llama", RelP(corrupt=ids("llama", CORRUPT).tolist())).scores, expected)
    assert (explained("llama", RelP(corrupt=TEXT)).scores == 0).all()


def test_relp_at_a_module_patches_its_output():
    by_hand, corrupt = llama_by_hand(temperature=None), llama_by_hand(CORRUPT)
    for layer in (0, 1):
        expected = ((by_hand.mlps[layer] - corrupt.mlps[layer]) * by_hand.gradient(by_hand.mlps[layer])).sum(-1)
        exact(explained("llama", RelP(corrupt=CORRUPT, at=f"model.layers.{layer}.mlp")).scores, expected.detach())
    attention = explained("llama", RelP(corrupt=CORRUPT, at="*1.self_attn"))
    assert (attention.scores != 0).any()


def test_relp_is_exact_where_the_model_is_linear_in_what_is_patched():
    # The last layer's MLP reaches the logit by the frozen final norm alone, so only the norm's change is missed.
    model = build("llama", num_hidden_layers=1)
    corrupt = "the man sees and of the dogs"
    assert len(ids("llama")) == len(ids("llama", corrupt))
    found = Explainer(model, tokenizer()).explain(TEXT, method=RelP(corrupt=corrupt, at="*.0.mlp"), target=TARGET)
    assert (found.scores[:-1] == 0).all()  # only the last place is read
    outputs, streams = {}, {}
    for text in (TEXT, corrupt):
        keep = [
            model.model.layers[0].mlp.register_forward_hook(lambda m, a, out, t=text: outputs.update({t: out})),
            model.model.norm.register_forward_pre_hook(lambda m, a, t=text: streams.update({t: a[0]})),
        ]
        with torch.no_grad():
            model(ids("llama", text)[None])
        for handle in keep:
            handle.remove()
    stream, norm = streams[TEXT][0, -1], model.model.norm
    frozen = norm.weight / (stream.pow(2).mean() + norm.variance_epsilon).sqrt() * model.lm_head.weight[TARGET]
    exact(found.scores[-1], ((outputs[TEXT] - outputs[corrupt])[0, -1] * frozen).sum().detach())


def test_relp_says_what_does_not_fit():
    assert required_options("relp")
    with pytest.raises(ApportionError, match="corrupt"):
        as_method("relp")
    refusals = [
        (RelP(corrupt="The cat"), "3 tokens and the prompt 9"),
        (RelP(corrupt=[TEXT, TEXT]), "2 were given"),
        (RelP(corrupt=CORRUPT, at="*.mlp"), "2 modules"),
        (RelP(corrupt=CORRUPT, at="nowhere"), "no module"),
        (RelP(corrupt=CORRUPT, at="model.rotary_emb"), "does not depend"),
        (RelP(corrupt=[4000] * 9), "out of the vocabulary"),
    ]
    for method, message in refusals:
        with pytest.raises(ApportionError, match=message) as caught:
            explained("llama", method)
        assert "\n" not in str(caught.value)


def test_relp_compares_every_example_of_a_batch_and_spans_too():
    found = explainer("llama").explain_many([TEXT, CORRUPT], method=RelP(corrupt=CORRUPT), target=TARGET, batch_size=2)
    exact(found[0].scores, explained("llama", RelP(corrupt=CORRUPT)).scores)
    assert (found[1].scores == 0).all()
    span = explainer("llama").explain(TEXT, method=RelP(corrupt=CORRUPT), target=Span((20, 21)))
    assert len(span.scores) == len(ids("llama")) + 1


@pytest.mark.parametrize(
    ("name", "method", "why"),
    [
        ("mamba", GIM(), "no softmax"),
        ("mamba", PALRP(), "no position embeddings"),
        ("llama", MambaLRP(), "x_proj"),
    ],
)
def test_a_model_without_what_a_rule_is_about_is_refused(name, method, why):
    with pytest.raises(ApportionError, match=why) as caught:
        explained(name, method)
    assert "attnlrp" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["res-lrp", "gim", "pa-lrp", "mamba-lrp", "relp"])
def test_every_variant_is_registered_with_its_options(name):
    assert name in METHODS
    if name != "relp":
        assert as_method(name).name == name
        assert as_method(name).options["composite"]["name"] == name


def test_options_tell_what_was_changed():
    assert as_method("res-lrp(gamma=0.5)").options["residual_gamma"] == 0.5
    assert as_method("gim(temperature=3, baseline='mean')").options["baseline"] == "mean"
    assert as_method("gim(temperature=3)").options["temperature"] == 3
    for wrong in ("gim(temperature=0)", "res-lrp(gamma=-1)", "gim(baseline='x')"):
        with pytest.raises(ApportionError):
            as_method(wrong)


def test_the_model_is_given_back_after_every_variant():
    model = tiny("llama")
    before = {name: (p.requires_grad, p.clone()) for name, p in model.named_parameters()}
    for method in ("res-lrp", "gim", "pa-lrp", RelP(corrupt=CORRUPT, at="model.layers.0.mlp")):
        explained("llama", method)
    assert all(p.requires_grad == before[n][0] and torch.equal(p, before[n][1]) for n, p in model.named_parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_attnlrp_needs_no_second_pass():
    trace = record(tiny("llama"), {"input_ids": ids("llama")[None], "use_cache": False})
    seed = torch.zeros_like(trace.output.logits)
    seed[0, -1, TARGET] = 1
    for composite, repeated in ((ATTNLRP, 0), (RELP, 0), (ResLRP().composite, 1)):
        trace.propagate(trace.output.logits, seed[None], composite)
        assert trace.repeated == repeated
