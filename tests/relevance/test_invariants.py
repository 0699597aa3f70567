"""What holds for every model and every composite: the books balance, and the model is given back as it was."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from apportion import AttnLRP, RuleNotApplied, UnknownOperation
from apportion.relevance import ATTNLRP, CP_LRP, GRADIENT, Composite, Propagated, Trace, record
from tests.tiny import NAMES, InFloat64, Of, build, inputs_of, tiny

ALL = [
    GRADIENT,
    ATTNLRP,
    CP_LRP,
    ATTNLRP.from_layer(1, CP_LRP),
    CP_LRP.within(ATTNLRP, modules="*.1.*", last_layer=1),
    replace(AttnLRP(product="flat").composite, name="attnlrp, flat"),
    replace(ATTNLRP, name="attnlrp, gate cut", gate="cut"),
    replace(ATTNLRP, name="attnlrp, attention's gradient", attention="gradient"),
    replace(ATTNLRP, name="attnlrp, product's gradient", product="gradient"),
    replace(ATTNLRP, name="attnlrp, activation's gradient", activation="gradient"),
    replace(ATTNLRP, name="attnlrp, norm's gradient", norm="gradient"),
    replace(ATTNLRP, name="attnlrp, softmax cut", softmax="cut"),
    replace(CP_LRP, name="cp-lrp, gate as a product", gate="product"),
]
COMPOSITES = {composite.name: composite for composite in ALL}
FLOAT32_INSIDE = {name for name in NAMES if name.startswith(("llama", "qwen2", "gemma2", "mixtral", "mamba", "t5"))}
every_model = pytest.mark.parametrize("name", NAMES)
every_composite = pytest.mark.parametrize("composite", COMPOSITES)


@cache
def traced(name: str) -> Trace:
    """One forward pass of each model, in float64 throughout, for all tests that do not need one of their own."""
    with InFloat64():
        return record(tiny(name), inputs_of(name))


def seeds_of(trace: Trace, *targets: int) -> Tensor:
    """The derivative of the named outputs at the last place, with targets in front."""
    logits = trace.output.logits
    seeds = torch.zeros(len(targets), *logits.shape, dtype=logits.dtype)
    for t, target in enumerate(targets):
        seeds[(t, 0, target) if logits.ndim == 2 else (t, 0, -1, target)] = 1
    return seeds


def divided(trace: Trace, composite: Composite, *targets: int) -> Propagated:
    with InFloat64():
        return trace.propagate(trace.output.logits, seeds_of(trace, *(targets or (1,))), composite)


def all_close(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], rtol: float = 1e-10) -> None:
    assert ours.keys() == theirs.keys()
    # Some shares are 0 but for rounding, such as those of a key's bias.
    atol = rtol * max(float(amount.abs().max()) for amount in theirs.values())
    assert_close(dict(ours), dict(theirs), rtol=rtol, atol=atol)


@every_composite
@every_model
def test_the_ledger_balances(name, composite):
    result = divided(traced(name), COMPOSITES[composite])
    assert result.ledger.relative_residual.item() < 1e-12
    assert result.ledger.lines["tokens"].abs().item() > 1e-6


@every_model
def test_cp_lrp_leaves_no_remainder(name):
    result = divided(traced(name), CP_LRP)
    books = result.ledger
    assert set(books.lines) <= {"tokens", "positions", "biases", "constants", "token types"}
    shares = sum(amount.flatten(1).sum(1).double() for amount in result.relevance.values())
    others = sum(
        (amount for name, amount in books.details.get("constants", {}).items() if name not in result.relevance),
        torch.zeros(1, dtype=torch.float64),
    )
    logits = traced(name).output.logits.detach()
    assert_close(shares + others, logits[(0, 1) if logits.ndim == 2 else (0, -1, 1)][None], rtol=1e-11, atol=1e-11)


@every_model
def test_gradient_times_input_equals_torch_s_own_gradient(name):
    inputs = inputs_of(name)
    model = tiny(name)
    found: dict[str, Tensor] = {}

    def keep(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        if arguments and torch.equal(arguments[0], inputs["input_ids"]):
            found["embedding"] = output.detach().requires_grad_(True)
            return found["embedding"] * 1
        return output

    handles = [m.register_forward_hook(keep) for m in model.modules() if isinstance(m, nn.Embedding)]
    try:
        with InFloat64():
            logits = model(**inputs).logits
            value = logits[0, 1] if logits.ndim == 2 else logits[0, -1, 1]
            (gradient,) = torch.autograd.grad(value, found["embedding"])
    finally:
        for handle in handles:
            handle.remove()
    result = divided(traced(name), GRADIENT)
    (ours,) = [a for n, a in result.relevance.items() if result.leaves[n].ids == "input_ids"]
    assert_close(ours[0], (gradient * found["embedding"]).sum(-1).detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("composite", ["gradient", "attnlrp", "cp-lrp"])
@every_model
def test_as_they_are_models_with_float32_inside_lose_half_their_digits_at_most(name, composite):
    trace = record(tiny(name), inputs_of(name))
    result = trace.propagate(trace.output.logits, seeds_of(trace, 1), COMPOSITES[composite])
    assert result.ledger.relative_residual.item() < (3e-6 if name in FLOAT32_INSIDE else 1e-12)


@every_model
def test_recording_leaves_the_logits_as_they_are_bit_for_bit(name):
    recorded = record(tiny(name), inputs_of(name)).output.logits.detach()
    # Torch takes another attention kernel for T5 when its bias needs no gradient.
    with nullcontext() if name == "t5" else torch.no_grad():
        expected = tiny(name)(**inputs_of(name)).logits
    assert torch.equal(recorded, expected)


@every_model
def test_recording_inside_no_grad_and_inference_mode_is_the_same(name):
    expected = divided(traced(name), ATTNLRP).relevance
    for context in (torch.no_grad, torch.inference_mode):
        with context(), InFloat64():
            trace = record(tiny(name), inputs_of(name))
            seeds = seeds_of(trace, 1)
            result = trace.propagate(trace.output.logits, seeds, ATTNLRP)
        all_close(result.relevance, expected)


@every_model
def test_composites_that_share_a_trace_do_not_touch_each_other(name):
    shared = traced(name)
    together = {c: divided(shared, COMPOSITES[c]) for c in ("attnlrp", "gradient", "cp-lrp", "attnlrp")}
    for composite, result in together.items():
        with InFloat64():
            own = record(tiny(name), inputs_of(name))
        alone = divided(own, COMPOSITES[composite])
        all_close(result.relevance, alone.relevance)
        all_close(result.ledger.lines, alone.ledger.lines)


@pytest.mark.parametrize("composite", ["gradient", "attnlrp", "cp-lrp", "attnlrp+cp-lrp", "attnlrp, norm's gradient"])
@every_model
def test_several_targets_at_once_are_as_one_by_one(name, composite):
    together = divided(traced(name), COMPOSITES[composite], 0, 2, 1)
    for t, target in enumerate((0, 2, 1)):
        alone = divided(traced(name), COMPOSITES[composite], target)
        all_close({n: a[t] for n, a in together.relevance.items()}, {n: a[0] for n, a in alone.relevance.items()})
        all_close(together.ledger[t].lines, alone.ledger[0].lines, rtol=1e-9)
        assert together.ledger[t].details.keys() == alone.ledger[0].details.keys()


@every_composite
@pytest.mark.parametrize("name", ["llama_with_biases", "bert", "qwen2_moe"])
def test_relevance_is_linear_in_the_target(name, composite):
    trace = traced(name)
    seeds = seeds_of(trace, 1, 2)
    mixed = 3 * seeds[:1] - 0.5 * seeds[1:]
    with InFloat64():
        both = trace.propagate(trace.output.logits, seeds, COMPOSITES[composite])
        result = trace.propagate(trace.output.logits, mixed, COMPOSITES[composite])
    all_close(result.relevance, {n: 3 * a[:1] - 0.5 * a[1:] for n, a in both.relevance.items()}, rtol=1e-9)
    all_close(result.ledger.lines, {n: 3 * a[:1] - 0.5 * a[1:] for n, a in both.ledger.lines.items()}, rtol=1e-9)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "bert", "bart", "mixtral"])
def test_eager_attention_gives_the_same_shares_as_the_fused_kernel(name):
    results = []
    for attention in ("eager", "sdpa"):
        with InFloat64():
            trace = record(build(name, attn_implementation=attention), inputs_of(name))
        results.append([divided(trace, composite) for composite in ALL])
    for eager, fused in zip(*results, strict=True):
        all_close(eager.relevance, fused.relevance, rtol=1e-9)
        all_close(
            {n: a for n, a in eager.ledger.lines.items() if a.abs() > 1e-12},
            {n: a for n, a in fused.ledger.lines.items() if a.abs() > 1e-12},
            rtol=1e-8,
        )


@pytest.mark.parametrize("name", ["llama_with_biases", "gpt2", "bart"])
def test_an_override_switches_at_its_layer(name):
    trace = traced(name)
    below, above = divided(trace, ATTNLRP), divided(trace, CP_LRP)
    from_0, from_1 = (divided(trace, ATTNLRP.from_layer(k, CP_LRP)) for k in (0, 1))
    all_close(from_0.relevance, above.relevance)
    all_close(divided(trace, CP_LRP.within(ATTNLRP, last_layer=0)).relevance, from_1.relevance)
    all_close(divided(trace, CP_LRP.within(ATTNLRP, first_layer=0, last_layer=1)).relevance, below.relevance)
    remainders = {line for line in from_1.ledger.lines if line.startswith("softmax")}
    assert remainders
    assert all(line.endswith("layer 0") for line in remainders)
    assert not torch.allclose(from_1.ledger.lines["tokens"], below.ledger.lines["tokens"])
    assert not torch.allclose(from_1.ledger.lines["tokens"], above.ledger.lines["tokens"])


def test_an_override_that_is_nowhere_is_refused():
    with pytest.raises(RuleNotApplied, match="layers 2–…: cp-lrp"):
        divided(traced("llama"), ATTNLRP.from_layer(2, CP_LRP))


def test_an_override_by_pattern_is_only_where_it_matches():
    trace = traced("llama")
    here = CP_LRP.within(ATTNLRP, modules="*.mlp*", first_layer=1, last_layer=1)
    rows = trace.audit(trace.output.logits, here).rows
    rules = {row.module: row.rule for row in rows if row.operation == "Mul" and row.module.endswith("mlp")}
    assert rules == {
        "model.layers.0.mlp": "gate held constant, all to the value",
        "model.layers.1.mlp": "½ to each factor",
    }
    assert {row.rule for row in rows if row.kind == "attention"} == {"weights held constant, all to the values"}


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything that lending a model could leave changed."""
    hooks = [key for key in vars(nn.Module()) if key.endswith(("_hooks", "_hooks_with_kwargs", "_always_called"))]
    return {
        "grad": [p.requires_grad for p in model.parameters()],
        "grads": [p.grad is None for p in model.parameters()],
        "training": [module.training for module in model.modules()],
        "hooks": [{key: len(vars(module)[key]) for key in hooks} for module in model.modules()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "attention": getattr(getattr(model, "config", None), "_attn_implementation", None),
        "pointers": [p.data_ptr() for p in model.parameters()],
        "values": [p.detach().double().sum().item() for p in (*model.parameters(), *model.buffers())],
    }


def in_disarray(name: str) -> nn.Module:
    """A model some of whose flags are not what they usually are."""
    model = build(name)
    for i, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(i % 3 != 0)
    for i, module in enumerate(model.modules()):
        module.training = i % 4 == 1
    return model


@every_model
def test_the_model_is_given_back_as_it_was(name):
    model = in_disarray(name)
    before = state_of(model)
    trace = record(model, inputs_of(name))
    assert state_of(model) == before
    for composite in (GRADIENT, ATTNLRP, CP_LRP):
        trace.propagate(trace.output.logits, seeds_of(trace, 0, 1), composite)
        trace.audit(trace.output.logits, composite)
    assert state_of(model) == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("name", ["llama_with_biases", "bert", "t5"])
def test_the_model_is_given_back_after_an_error_inside_it(name, error):
    model = in_disarray(name)
    module = [m for m in model.modules() if isinstance(m, nn.Linear)][3]

    def fail(*arguments: Any) -> None:
        raise error("stop")

    handle = module.register_forward_pre_hook(fail)
    before = state_of(model)
    with pytest.raises(error, match="stop"):
        record(model, inputs_of(name))
    assert state_of(model) == before
    handle.remove()
    expected = divided_plainly(build(name), name)
    all_close(divided_plainly(model, name), expected)


def divided_plainly(model: nn.Module, name: str) -> Mapping[str, Tensor]:
    trace = record(model, inputs_of(name))
    return trace.propagate(trace.output.logits, seeds_of(trace, 1), CP_LRP).relevance


def test_the_model_is_given_back_after_an_error_on_the_way_back():
    model = in_disarray("gpt2")
    before = state_of(model)
    trace = record(model, inputs_of("gpt2"))
    with pytest.raises(RuntimeError):
        trace.propagate(trace.output.logits, torch.ones(1, 2, 3), ATTNLRP)
    assert state_of(model) == before
    assert divided_plainly(model, "gpt2")


def test_a_failed_propagation_leaves_no_rule_on_the_trace():
    with InFloat64():
        trace = record(tiny("gpt2"), inputs_of("gpt2"))
    with pytest.raises(RuntimeError):
        trace.propagate(trace.output.logits, torch.ones(1, 2, 3), CP_LRP)
    all_close(divided(trace, GRADIENT).relevance, divided(traced("gpt2"), GRADIENT).relevance)


def test_the_model_is_given_back_after_an_unknown_operation():
    model = Of(lambda x, inner: inner(x).lgamma(), inner=nn.Linear(3, 2))
    model.train()
    model.inner.weight.requires_grad_(False)
    before = state_of(model)
    trace = record(model, {"x": torch.rand(1, 3)})
    with pytest.raises(UnknownOperation):
        trace.propagate(trace.output, torch.ones(1, 1, 2), ATTNLRP)
    assert state_of(model) == before


@pytest.mark.parametrize("context", [nullcontext, torch.no_grad])
def test_gradients_that_the_user_has_collected_stay(context):
    model = build("gpt2")
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    with context():
        divided_plainly(model, "gpt2")
    assert all((p.grad == 0.5).all() for p in model.parameters())


def test_two_threads_on_two_models_are_as_one_after_the_other():
    names = ("llama_with_biases", "gpt2")
    expected = {name: divided_plainly(build(name), name) for name in names}
    found: dict[str, list[Mapping[str, Tensor]]] = {name: [] for name in names}
    start = threading.Barrier(len(names))

    def work(name: str) -> None:
        model = build(name)
        start.wait()
        for _ in range(4):
            found[name].append(divided_plainly(model, name))

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in names:
        assert len(found[name]) == 4
        for result in found[name]:
            all_close(result, expected[name])
