"""The gamma and z⁺ rules, residual sums and tempered softmaxes at single operations and on vision towers."""

from __future__ import annotations

import json
from functools import cache, partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import PreTrainedModel

from apportion import ApportionError, RuleNotApplied, attnlrp_vision
from apportion.relevance import ATTNLRP, CP_LRP, GIM, GRADIENT, NAMED, RES_LRP, Composite, Propagated, record
from tests.checking import unchecked
from tests.reference.literal_variants import gamma_rule
from tests.tiny import InFloat64, Of, build, inputs_of, with_random_weights

exact = partial(assert_close, rtol=1e-11, atol=1e-12)
GAMMA, Z_PLUS = Composite(linear="gamma", gamma=0.4), Composite(linear="z-plus")
gammas = pytest.mark.parametrize(("composite", "gamma"), [(GAMMA, 0.4), (Z_PLUS, None)], ids=["gamma", "z-plus"])
number = st.floats(0.25, 4).flatmap(lambda size: st.sampled_from([size, -size]))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def propagated(model: Any, composite: Composite, seed: Tensor | None = None, **inputs: Any) -> Propagated:
    """Relevance of Σ seed·output; the books must balance."""
    trace = record(model if isinstance(model, nn.Module) else Of(model), inputs)
    output = getattr(trace.output, "logits", trace.output)
    seed = torch.ones_like(output)[None] if seed is None else seed
    result = trace.propagate(output, seed, composite)
    largest = max(float(amount.abs().max()) for amount in (result.ledger.total, *result.relevance.values()))
    assert (result.ledger.residual.abs() <= 1e-11 * largest).all()
    return result


def relevance(model: Any, composite: Composite, seed: Tensor | None = None, **inputs: Any) -> Tensor:
    return propagated(model, composite, seed, **inputs).relevance["x"]


@gammas
def test_linear_maps_follow_the_equation_however_they_are_written(composite, gamma):
    x, weight, bias, seed = random(4, 3), random(5, 3, seed=1), random(5, seed=2), random(4, 5, seed=3)
    expected, kept = gamma_rule(x, weight, bias, seed * (x @ weight.T + bias), gamma)
    layer = nn.Linear(3, 5).double()
    layer.weight.data, layer.bias.data = weight, bias
    written = [
        Of(lambda x, layer: layer(x), layer=layer),
        Of(lambda x, layer: layer(x[None])[0], layer=layer),
        Of(lambda x, w, b: torch.addmm(b, x, w), w=weight.T.contiguous(), b=bias),
        Of(lambda x, w, b: torch.addmm(b / 2, x, w / 4, beta=2, alpha=4), w=weight.T.contiguous(), b=bias),
        Of(lambda x, w, b: torch.addmm(b[:, None].expand(5, 4), w, x.T).T, w=weight, b=bias),
        Of(lambda x, w, b: torch.baddbmm(b[None, None], x[None], w[None])[0], w=weight.T.contiguous(), b=bias),
        Of(lambda x, w, b: F.conv1d(x.T[None], w[..., None], b)[0].T, w=weight, b=bias),
    ]
    for model in written:
        result = propagated(model, composite, seed[None], x=x)
        exact(result.relevance["x"][0], expected)
        line = "biases" if "biases" in result.ledger.lines else "constants"
        exact(result.ledger.lines[line][0], kept.sum())


@gammas
def test_maps_without_bias_and_convolutions_of_images_do_too(composite, gamma):
    x, weight, seed = random(4, 3), random(5, 3, seed=1), random(4, 5, seed=3)
    expected, _ = gamma_rule(x, weight, torch.zeros(5).double(), seed * (x @ weight.T), gamma)
    for function in (lambda x, w: x @ w.T, lambda x, w: (w @ x.T).T, lambda x, w: torch.bmm(x[None], w.T[None])[0]):
        exact(relevance(Of(function, w=weight), composite, seed[None], x=x)[0], expected)
    image, kernel, bias = random(1, 2, 6, 6), random(3, 2, 2, 2, seed=1), random(3, seed=2)
    patches = F.unfold(image, 2, stride=2)[0].T
    seed = random(9, 3, seed=4)
    by_patch, _ = gamma_rule(patches, kernel.flatten(1), bias, seed * (patches @ kernel.flatten(1).T + bias), gamma)
    whole = F.fold(by_patch.T[None], (6, 6), 2, stride=2)
    model = Of(lambda x, k, b: F.conv2d(x, k, b, stride=2), k=kernel, b=bias)
    exact(relevance(model, composite, seed.T.reshape(1, 1, 3, 3, 3), x=image)[0], whole)


@settings(max_examples=15)
@given(st.lists(number, min_size=3, max_size=3), st.lists(number, min_size=3, max_size=3), number)
def test_gamma_runs_from_epsilon_to_z_plus(x, weight, bias):
    x, weight, bias = (torch.tensor(v, dtype=torch.float64) for v in (x, weight, [bias]))
    model = Of(lambda x, w, b: torch.addmm(b, x[None], w[:, None]), w=weight, b=bias)
    epsilon, z_plus = (relevance(model, c, x=x) for c in (GRADIENT, Z_PLUS))
    exact(relevance(model, Composite(linear="gamma", gamma=0), x=x), epsilon)
    if abs((x @ weight + bias).item()) > 1e-3:
        assert_close(relevance(model, Composite(linear="gamma", gamma=1e9), x=x), z_plus, rtol=1e-5, atol=1e-5)


def test_z_plus_is_its_textbook_form_where_all_is_positive():
    x, weight = random(4, 3).abs(), random(5, 3, seed=1)
    bias = -(x @ weight.clamp_max(0).T).amin(0) + 0.1  # so that every pre-activation is positive
    positive = x @ weight.clamp_min(0).T + bias
    expected = x * ((x @ weight.T + bias) / positive @ weight.clamp_min(0))
    exact(relevance(Of(lambda x, w, b: F.linear(x, w, b), w=weight, b=bias), Z_PLUS, x=x)[0], expected)


def test_a_result_of_zero_passes_nothing_that_is_not_finite():
    x, weight = torch.tensor([[1.0, 1.0]]).double(), torch.tensor([[1.0], [-1.0]]).double()
    for composite in (GAMMA, Z_PLUS, Composite(residual="gamma")):
        model = Of(lambda x, w: x @ w + torch.sigmoid(x @ w) * 0 + x[:, :1] - x[:, :1] @ w[:1], w=weight)
        if composite.residual == "gamma":
            model = Of(lambda x, w: x + x @ w @ w.T - x @ w @ w.T - x, w=weight)
        assert relevance(model, composite, x=x).isfinite().all()


@settings(max_examples=40)
@given(number, number, st.sampled_from([0.0, 0.5, 1.0, 7.0]), st.sampled_from([1, -1, 2]))
def test_a_residual_sum_follows_its_equation_and_conserves(a, factor, gamma, sign):
    b = sign * a * factor
    if abs(a + b) < 1e-6:
        return
    function = {1: torch.add, -1: torch.sub, 2: partial(torch.add, alpha=2)}[sign]
    model = Of(lambda x, branch: function(x, branch(x)), branch=_Map(torch.tensor([[factor]]).double()))
    trace = record(model, {"x": torch.tensor([[a]]).double()}, site="branch")
    composite = Composite(residual="gamma", residual_gamma=gamma)
    found = trace.propagate(trace.output, torch.ones(1, 1, 1).double(), composite, ledger=False)
    w_a, w_b = (1 + gamma * (z * (a + b) > 0) for z in (a, b))
    to_branch = (trace.recording.site.value * found.gradients["branch"]).item()
    assert to_branch == pytest.approx(w_b * b / (w_a * a + w_b * b) * (a + b), rel=1e-6)
    assert found.relevance["x"].item() == pytest.approx(a + b, rel=1e-6)


class _Map(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


def test_only_a_branch_and_what_it_was_computed_from_make_a_residual_sum():
    w = random(3, 3)
    x, y = random(2, 3), random(2, 3, seed=1)

    def counted(function: Any, **inputs: Tensor) -> int:
        trace = record(Of(function, w=w), inputs)
        rows = trace.audit(trace.output, RES_LRP).rows
        return sum(row.count for row in rows if row.kind == "residual")

    assert counted(lambda x, w: x + x @ w, x=x) == 1
    assert counted(lambda x, w: x @ w + 2 * x.clone(), x=x) == 1
    assert counted(lambda x, w: (x @ w).add_(x), x=x) == 1
    assert counted(lambda x, w: x + x @ w + x.tanh() @ w, x=x) == 2  # parallel branches, one after the other
    assert counted(lambda x, w: x @ w + x @ w.T, x=x) == 0  # parallel branches among themselves
    assert counted(lambda x, w: x + x.tanh(), x=x) == 0  # no map
    assert counted(lambda x, w: x + (x @ w).sum(0, keepdim=True), x=x) == 0  # of another shape
    assert counted(lambda x, w: x * w[:2] + x.flip(-1) * w[1:], x=x) == 0  # a rotation
    assert counted(lambda x, w, y: x + y, x=x, y=y) == 0


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("heads", [4, 2])
def test_a_fused_attention_is_tempered_as_one_written_out(causal, masked, heads):
    q, k, v = random(2, 4, 5, 6), random(2, heads, 5, 6, seed=1), random(2, heads, 5, 6, seed=2)
    mask = None if causal or not masked else random(5, 5, seed=3)

    def written_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k, v = (x.repeat_interleave(4 // heads, 1) for x in (k, v))
        scores = q @ k.mT * 6**-0.5
        if causal:
            scores = scores.masked_fill(torch.ones(5, 5, dtype=torch.bool).triu(1), -torch.inf)
        return (scores if mask is None else scores + mask).softmax(-1) @ v

    def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=heads != 4)

    seeds = random(3, 2, 4, 5, 6, seed=4)
    for composite in (GIM, Composite(temperature=3.0)):
        ours, theirs = (propagated(f, composite, seeds, q=q, k=k, v=v).relevance for f in (fused, written_out))
        for name in "qkv":
            exact(ours[name], theirs[name])


@pytest.mark.parametrize("linear", ["gamma", "z-plus"])
@pytest.mark.parametrize("name", ["llama_with_biases", "gpt2", "bert_classifier", "t5", "mamba", "mixtral"])
def test_models_conserve_under_other_linear_rules(name, linear):
    model = build(name)
    with InFloat64():
        trace = record(model, inputs_of(name))
        output = trace.output.logits
        seeds = torch.zeros(2, *output.shape).double()
        seeds.flatten(1)[[0, 1], [-1, -2]] = 1
        found, plain, nothing = (
            trace.propagate(output, seeds, composite)
            for composite in (ATTNLRP_WITH[linear], ATTNLRP, ATTNLRP_WITH["none"])
        )
    assert (found.ledger.relative_residual < 1e-11).all()
    for leaf, amount in plain.relevance.items():
        exact(nothing.relevance[leaf], amount)
    tokens = next(name for name, leaf in plain.leaves.items() if leaf.role == "tokens")
    assert not torch.allclose(found.relevance[tokens], plain.relevance[tokens], rtol=1e-3)


ATTNLRP_WITH = {
    "gamma": Composite(**{**ATTNLRP.to_dict(), "name": "γ", "linear": "gamma", "gamma": 0.3, "overrides": ()}),
    "z-plus": Composite(**{**ATTNLRP.to_dict(), "name": "z⁺", "linear": "z-plus", "overrides": ()}),
    "none": Composite(**{**ATTNLRP.to_dict(), "name": "none", "linear": "gamma", "gamma": 0, "overrides": ()}),
}

TOWER = {
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 8,
    "patch_size": 4,
    "num_labels": 3,
}
TOWERS = {
    "ViT": TOWER,
    "Dinov2": TOWER,
    "Clip": {"vision_config": TOWER, "num_labels": 3},
    "Siglip": {"vision_config": TOWER, "num_labels": 3},
}


@cache
def tower(name: str) -> PreTrainedModel:
    family = {"Clip": "CLIP"}.get(name, name)
    config = getattr(transformers, f"{family}Config")(**TOWERS[name])
    return with_random_weights(getattr(transformers, f"{family}ForImageClassification")(config))


@pytest.mark.parametrize("name", list(TOWERS))
def test_the_vision_recipe_gives_gamma_to_mlps_and_patches_only(name):
    model, pixels = tower(name), random(1, 3, 8, 8)
    composite = attnlrp_vision(model)
    trace = record(model, {"pixel_values": pixels})
    rows = trace.audit(trace.output.logits, composite).check().rows
    weighed = {row.module.split(".")[-1]: row.rule.partition(" for")[0] for row in rows if row.kind == "linear map"}
    patches = {"ViT": "projection", "Dinov2": "projection"}.get(name, "patch_embedding")
    assert weighed == {"fc1": "γ = 0.05", "fc2": "γ = 0.05", patches: "γ = 0.25"}
    assert sum(row.count for row in rows if row.kind == "linear map") == 5
    projections = [
        row for row in rows if row.operation in ("Addmm", "Mm") and ("ttention" in row.module or "attn" in row.module)
    ]
    assert projections
    assert all(row.kind != "linear map" for row in projections)
    seeds = torch.eye(3).double()[:, None]
    assert (trace.propagate(trace.output.logits, seeds, composite).ledger.relative_residual < 1e-11).all()
    assert Composite.from_dict(json.loads(json.dumps(composite.to_dict()))) == composite


@pytest.mark.parametrize("name", list(TOWERS))
def test_vision_towers_have_two_residual_sums_a_layer(name):
    trace = record(tower(name), {"pixel_values": random(1, 3, 8, 8)})
    rows = trace.audit(trace.output.logits, RES_LRP).check().rows
    assert sum(row.count for row in rows if row.kind == "residual") == 4
    found = trace.propagate(trace.output.logits, torch.eye(3).double()[:, None], RES_LRP)
    assert (found.ledger.relative_residual < 1e-11).all()


def test_the_vision_recipe_refuses_what_is_no_vision_transformer():
    for model, why in ((build("llama"), "no convolution"), (nn.Sequential(nn.Conv2d(3, 4, 2)), "no linear layer")):
        with pytest.raises(ApportionError, match=why):
            attnlrp_vision(model)


@pytest.mark.parametrize(
    ("composite", "promise"),
    [
        (RES_LRP, "residual"),
        (GIM, "softmax"),
        (GAMMA, "linear maps"),
        (CP_LRP.within(Composite(temperature=2), modules="*"), "softmax"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_promised_rule_that_applies_nowhere_is_refused_and_reported(composite, promise):
    trace = record(Of(lambda x: x.tanh() * 2), {"x": random(3)})
    audit = trace.audit(trace.output, composite)
    assert any(promise in missing for missing in audit.missing)
    with pytest.raises(RuleNotApplied, match=promise):
        audit.check()
    with pytest.raises(RuleNotApplied, match=promise) as caught:
        trace.propagate(trace.output, torch.ones(1, 3).double(), composite)
    assert "\n" not in str(caught.value)


def test_a_held_constant_projection_passes_nothing_and_must_exist():
    first, second = (nn.Linear(3, 3, bias=False).double() for _ in range(2))
    model = Of(lambda x, first, second: first(x) + second(x), first=first, second=second)
    held = GRADIENT.within(Composite(linear="cut"), modules="first")
    x = random(2, 3)
    exact(relevance(model, held, x=x)[0], x * second.weight.detach().sum(0))
    with pytest.raises(RuleNotApplied):
        relevance(model, GRADIENT.within(Composite(linear="cut"), modules="third"), x=x)


def test_composites_with_numbers_print_compare_and_go_to_json_and_back():
    for composite in NAMED.values():
        assert Composite.from_dict(json.loads(json.dumps(composite.to_dict()))) == composite
    assert "residual gamma" in str(RES_LRP)
    assert "temperature 2" in str(GIM)
    assert "temperature" not in str(ATTNLRP)
    older = {k: v for k, v in ATTNLRP.to_dict().items() if k not in ("temperature", "gamma", "residual")}
    assert Composite.from_dict(older) == ATTNLRP
    wrong: list[dict[str, Any]] = [
        {"gamma": -1.0},
        {"gamma": float("nan")},
        {"residual_gamma": float("inf")},
        {"temperature": 0},
        {"temperature": "2"},
        {"gamma": True},
        {"linear": "alpha-beta"},
        {"residual": "max"},
    ]
    for options in wrong:
        with unchecked(), pytest.raises(ApportionError, match=next(iter(options))):
            Composite(**options)


def test_a_mixture_in_one_kernel_is_refused_rather_than_left_alone():
    model = build("mixtral", experts_implementation="grouped_mm").float()
    trace = record(model, inputs_of("mixtral"))
    seed = torch.ones_like(trace.output.logits)[None]
    with pytest.raises(ApportionError, match="experts_implementation"):
        trace.propagate(trace.output.logits, seed, ATTNLRP_WITH["gamma"])
