"""The rules at single operations, where the answer is known by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close
from transformers.models.bloom.modeling_bloom import GeLUFunction

from apportion import ApportionError, AttnLRP, NonFiniteRelevance, RuleNotApplied, UnknownOperation
from apportion.relevance import (
    ATTNLRP,
    CP_LRP,
    GRADIENT,
    Composite,
    Operation,
    Propagated,
    Treatment,
    record,
    register_rule,
    unregister_rule,
)
from apportion.relevance._slopes import _FROM_RESULT, _SLOPES
from tests.checking import unchecked
from tests.reference.literal_rules import attention_head_rule, layer_norm_rule, softmax_rule
from tests.tiny import Of, build, inputs_of

FLAT = AttnLRP(product="flat").composite
number = st.floats(0.25, 4).flatmap(lambda size: st.sampled_from([size, -size]))
lrp = pytest.mark.parametrize("composite", [ATTNLRP, CP_LRP], ids=lambda c: c.name)
exact = partial(assert_close, rtol=1e-12, atol=1e-12)


def tensor(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def propagated(
    function: Callable[..., Tensor] | nn.Module, composite: Composite, seed: Tensor | None = None, **inputs: Tensor
) -> Propagated:
    """Relevance of Σ seed·output, every output counting once unless the seed says otherwise; the books must balance."""
    model = function if isinstance(function, nn.Module) else Of(function)
    trace = record(model, inputs)
    seed = torch.ones_like(trace.output) if seed is None else seed
    result = trace.propagate(trace.output, seed[None], composite)
    largest = max(float(amount.abs().max()) for amount in (result.ledger.total, *result.relevance.values()))
    assert result.ledger.residual.abs().item() <= 1e-9 * largest  # Bloom's GELU writes √(2/π) with 8 digits
    return result


def shares(function: Callable[..., Tensor] | nn.Module, composite: Composite, **inputs: Tensor) -> dict[str, Any]:
    """The relevance of each input, summed; of one number as a number."""
    return {k: a.sum().item() for k, a in propagated(function, composite, **inputs).relevance.items()}


def line(result: Propagated, name: str) -> float:
    return result.ledger.lines[name].item() if name in result.ledger.lines else 0.0


@given(number, number)
def test_a_product_gives_half_to_each_factor(a, b):
    found = shares(lambda a, b: a * b, ATTNLRP, a=tensor(a), b=tensor(b))
    assert found == pytest.approx({"a": a * b / 2, "b": a * b / 2})


@given(number, number)
def test_the_gradient_counts_a_product_twice_and_the_books_say_so(a, b):
    result = propagated(lambda a, b: a * b, GRADIENT, a=tensor(a), b=tensor(b))
    assert result.relevance["a"].item() == pytest.approx(a * b)
    assert line(result, "non-linearities") == pytest.approx(-a * b)


@pytest.mark.parametrize(
    ("function", "uniform"),
    [(lambda a, b, c: (a * b) * c, (6, 6, 12)), (lambda a, b, c: a * (b * c), (12, 6, 6))],
)
def test_flat_does_not_depend_on_the_order_of_multiplication_as_uniform_does(function, uniform):
    inputs = {"a": tensor(2.0), "b": tensor(3.0), "c": tensor(4.0)}
    assert tuple(shares(function, ATTNLRP, **inputs).values()) == pytest.approx(uniform)
    assert tuple(shares(function, FLAT, **inputs).values()) == pytest.approx((8, 8, 8))


@st.composite
def associations(draw: Any, low: int = 0, high: int = 5) -> Any:
    """A way to multiply factors low..high-1, as nested pairs."""
    if high - low == 1:
        return low
    cut = draw(st.integers(low + 1, high - 1))
    return draw(associations(low, cut)), draw(associations(cut, high))


def multiplied(tree: Any, factors: list[Tensor]) -> Tensor:
    return factors[tree] if isinstance(tree, int) else multiplied(tree[0], factors) * multiplied(tree[1], factors)


@given(associations(), st.lists(number, min_size=5, max_size=5))
def test_flat_gives_every_factor_of_a_chain_the_same(tree, values):
    inputs = {f"x{i}": tensor(value) for i, value in enumerate(values)}
    found = shares(lambda **x: multiplied(tree, list(x.values())), FLAT, **inputs)
    assert list(found.values()) == pytest.approx([math.prod(values) / 5] * 5)


@pytest.mark.parametrize(
    ("function", "uniform"),
    [(lambda q, k, v: (q @ k.mT) @ v, (0.25, 0.25, 0.5)), (lambda q, k, v: q @ (k.mT @ v), (0.5, 0.25, 0.25))],
)
@pytest.mark.parametrize("batch", [(), (2,)])
def test_linear_attention_is_shared_alike_under_flat_only(function, uniform, batch):
    inputs = {name: random(*batch, 3, 3, seed=i) for i, name in enumerate("qkv")}
    total = function(*inputs.values()).sum().item()
    assert list(shares(function, ATTNLRP, **inputs).values()) == pytest.approx([total * s for s in uniform])
    assert list(shares(function, FLAT, **inputs).values()) == pytest.approx([total / 3] * 3)


def test_a_square_is_the_same_written_as_a_product_or_a_power():
    x = random(3)
    for composite in (ATTNLRP, CP_LRP, FLAT):
        for function in (lambda x: x * x, lambda x: x**2, lambda x: x.square()):
            assert_close(propagated(function, composite, x=x).relevance["x"][0], x**2)


@pytest.mark.parametrize("act", [F.silu, F.gelu, F.relu, F.leaky_relu, F.mish, lambda g: g * g.sigmoid()])
def test_cp_lrp_gives_a_gated_product_to_the_value(act):
    g, u = random(4), random(4, seed=1)
    total = (act(g) * u).sum().item()
    for function in (lambda g, u: act(g) * u, lambda g, u: u * act(g)):
        assert shares(function, CP_LRP, g=g, u=u) == pytest.approx({"g": 0, "u": total})
        assert shares(function, ATTNLRP, g=g, u=u) == pytest.approx({"g": total / 2, "u": total / 2})


@lrp
@pytest.mark.parametrize("gate", [torch.sigmoid, torch.tanh, torch.erf, F.hardsigmoid, F.softplus])
def test_a_squashed_gate_is_held_constant(gate, composite):
    g, u = random(4), random(4, seed=1)
    found = propagated(lambda g, u: gate(2 * g + 1).unsqueeze(0) * u, composite, g=g, u=u)
    exact(found.relevance["u"][0], (gate(2 * g + 1) * u))
    assert (found.relevance["g"] == 0).all()


WRITTEN_OUT = {
    "silu": (F.silu, lambda x: x * torch.sigmoid(x)),
    "silu, divided": (F.silu, lambda x: x / (1 + torch.exp(-x))),
    "gelu": (F.gelu, lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))),
    "gelu, tanh": (
        partial(F.gelu, approximate="tanh"),
        lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    "gelu, quick": (lambda x: F.silu(1.702 * x) / 1.702, lambda x: x * torch.sigmoid(1.702 * x)),
    "mish": (F.mish, lambda x: x * torch.tanh(F.softplus(x))),
    "hardswish": (F.hardswish, lambda x: x * F.hardsigmoid(x)),
}


@lrp
@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_a_written_out_activation_equals_the_fused_kernel(name, composite):
    fused, written = WRITTEN_OUT[name]
    a, b, weight = random(6), random(6, seed=1), random(6, 6, seed=2)
    results = [propagated(lambda a, b, f=f: f(weight @ a - b), composite, a=a, b=b) for f in (fused, written)]
    for leaf in ("a", "b"):
        exact(results[1].relevance[leaf], results[0].relevance[leaf])
    exact(sum(amount.sum() for amount in results[0].relevance.values()), fused(weight @ a - b).sum())


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_a_written_out_activation_is_a_gate_like_the_fused_kernel(name):
    g, u = random(4), random(4, seed=1)
    for function in WRITTEN_OUT[name]:
        found = shares(lambda g, u, f=function: f(g) * u, CP_LRP, g=g, u=u)
        assert found == pytest.approx({"g": 0, "u": (WRITTEN_OUT[name][0](g) * u).sum().item()})


def layer_norm_by_parts(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5) * weight + bias


def layer_norm_with_var(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) * torch.rsqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5) * weight + bias


@lrp
@pytest.mark.parametrize("function", [layer_norm_by_parts, layer_norm_with_var, None])
def test_layer_norm_fused_and_written_out_is_its_linear_map(function, composite):
    x, weight, bias, seed = random(2, 5), random(5, seed=1), random(5, seed=2), random(2, 5, seed=3)
    function = function or (lambda x, weight, bias: F.layer_norm(x, (5,), weight, bias))
    parts = {"weight": nn.Parameter(weight), "bias": nn.Parameter(bias)}
    result = propagated(Of(function, **parts), composite, seed, x=x)
    y = layer_norm_by_parts(x, weight, bias)
    expected, kept = layer_norm_rule(x, weight, bias, 1e-5, y * seed)
    assert_close(result.relevance["x"][0], expected)
    assert line(result, "biases") == pytest.approx(kept)


@lrp
@pytest.mark.parametrize(
    "function",
    [
        lambda x, weight: F.rms_norm(x, (5,), weight, 1e-6),
        lambda x, weight: weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)),
        lambda x, weight: weight * x / ((x * x).mean(-1, keepdim=True) + 1e-6).sqrt(),
    ],
)
def test_rms_norm_passes_relevance_on_element_by_element(function, composite):
    x, weight, seed = random(2, 5), random(5, seed=1), random(2, 5, seed=3)
    result = propagated(Of(function, weight=nn.Parameter(weight)), composite, seed, x=x)
    assert_close(result.relevance["x"][0], F.rms_norm(x, (5,), weight, 1e-6) * seed)


@lrp
def test_dividing_by_the_length_holds_the_length_constant(composite):
    x = random(2, 5)
    for function in (lambda x: x / x.norm(dim=-1, keepdim=True), lambda x: F.normalize(x, dim=-1)):
        assert_close(propagated(function, composite, x=x).relevance["x"][0], F.normalize(x, dim=-1))


@lrp
def test_group_norm_equals_the_written_out_one(composite):
    x, weight, bias, seed = random(2, 4, 3), random(4, seed=1), random(4, seed=2), random(2, 4, 3, seed=3)

    def by_parts(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        groups = x.reshape(2, 2, 6)
        groups = (groups - groups.mean(-1, keepdim=True)) / (groups.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        return groups.reshape(2, 4, 3) * weight[:, None] + bias[:, None]

    parts = {"weight": nn.Parameter(weight), "bias": nn.Parameter(bias)}
    fused = propagated(Of(lambda x, weight, bias: F.group_norm(x, 2, weight, bias), **parts), composite, seed, x=x)
    written = propagated(Of(by_parts, **parts), composite, seed, x=x)
    assert_close(fused.relevance["x"], written.relevance["x"])
    assert line(fused, "biases") == pytest.approx(line(written, "biases"))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["attnlrp", "cp_lrp"])
@pytest.mark.parametrize("fused", [False, True])
def test_attention_equals_the_literal_rule(fused, name, causal):
    q, k, v = (random(4, 3, seed=i) for i in range(3))

    def eager(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.mT / math.sqrt(3)
        if causal:
            scores = scores + torch.full((4, 4), -math.inf, dtype=q.dtype).triu(1)
        return scores.softmax(-1) @ v

    def kernel(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x[None, None] for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)[0, 0]

    composite = {"attnlrp": ATTNLRP, "cp_lrp": CP_LRP}[name]
    result = propagated(kernel if fused else eager, composite, q=q, k=k, v=v)
    *expected, kept = attention_head_rule(q, k, v, eager(q, k, v), causal=causal, composite=name)
    for leaf, amount in zip("qkv", expected, strict=True):
        assert_close(result.relevance[leaf][0], amount)
    assert line(result, "softmax remainder, model") == pytest.approx(kept, abs=1e-12)


@pytest.mark.parametrize("options", [{"attention": "gradient"}, {"product": "gradient"}, {"product": "flat"}], ids=str)
@pytest.mark.parametrize(
    "scaled", [lambda scores: scores * 3**-0.5, lambda scores: scores / 3**0.5], ids=["times", "by"]
)
def test_attention_follows_its_own_rule_and_not_that_of_products(scaled, options):
    def eager(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return scaled(q @ k.mT).softmax(-1) @ v

    def kernel(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(*(x[None, None] for x in (q, k, v)))[0, 0]

    inputs = {name: random(4, 3, seed=i) for i, name in enumerate("qkv")}
    written, fused = (propagated(f, AttnLRP(**options).composite, **inputs) for f in (eager, kernel))
    exact(written.relevance, fused.relevance)


def test_the_softmax_keeps_what_its_first_order_leaves():
    scores, values = random(5), random(5, seed=1)
    result = propagated(lambda s: s.softmax(-1) * values, ATTNLRP, s=scores)
    of_weights = scores.softmax(-1) * values
    assert_close(result.relevance["s"][0], softmax_rule(scores, scores.softmax(-1), of_weights))
    remainder = of_weights.sum() - softmax_rule(scores, scores.softmax(-1), of_weights).sum()
    assert line(result, "softmax remainder, model") == pytest.approx(remainder.item())


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "Silu": F.silu,
    "Gelu": F.gelu,
    "Gelu, tanh": partial(F.gelu, approximate="tanh"),
    "GeLUFunction": GeLUFunction.apply,
    "Mish": F.mish,
    "Elu": partial(F.elu, alpha=1.5),
    "Selu": F.selu,
    "Celu": partial(F.celu, alpha=0.7),
    "Hardswish": F.hardswish,
    "Hardtanh": partial(F.hardtanh, min_val=-0.5, max_val=2.0),
    "Clamp": lambda z: z.clamp(-1, 2),
    "Clamp, away from 0": lambda z: z.clamp(0.25, 2),
    "Clamp, tensors": lambda z: z.clamp(tensor(-1.0), tensor(2.0)),
    "ClampMin": lambda z: z.clamp_min(-0.75),
    "ClampMax": lambda z: z.clamp_max(0.75),
    "ClampMax, below 0": lambda z: z.clamp_max(-0.5),
    "Softplus": partial(F.softplus, beta=2.0),
    "LogSigmoid": F.logsigmoid,
    "Hardsigmoid": F.hardsigmoid,
    "Erf": torch.erf,
    "Erfc": torch.erfc,
    "Pow": lambda z: z**3,
    "Tanh": torch.tanh,
    "Sigmoid": torch.sigmoid,
    "Expm1": torch.expm1,
}
KINKED_AT_0 = {"Selu", "Elu", "Celu"}  # their two slopes meet at 0


def test_every_slope_is_tested():
    assert {name.partition(",")[0] for name in ACTIVATIONS} == {*_SLOPES, *_FROM_RESULT}


@lrp
@pytest.mark.parametrize("beyond", [False, True])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_passes_relevance_by_its_secant(name, beyond, composite):
    f = ACTIVATIONS[name]
    z = tensor(-2.5, -1, -0.3, 0.2, 1.7, 3) if not beyond else tensor(-40, -20, -1e-3, 1e-3, 20, 36)
    b = tensor(1, 2, -1, 0.5, 0.25, 3)
    f_of_0 = f(torch.zeros_like(z))
    secant = (f(z) - f_of_0) / z
    result = propagated(lambda a, b: f(a - b), composite, a=z + b, b=b)
    exact(result.relevance["a"][0], (z + b) * secant, rtol=1e-9, atol=1e-9)
    exact(result.relevance["b"][0], -b * secant, rtol=1e-9, atol=1e-9)
    assert line(result, "constants") == pytest.approx(f_of_0.sum().item(), abs=1e-12)


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - KINKED_AT_0))
def test_the_secant_at_0_is_the_derivative(name):
    f, a = ACTIVATIONS[name], tensor(1, -2)
    zero = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    (derivative,) = torch.autograd.grad(f(zero).sum(), zero)
    for nearly in (0.0, 1e-12):
        result = propagated(lambda a, b: f(a - b), ATTNLRP, a=a, b=a - nearly)
        assert_close(result.relevance["a"][0], a * derivative, rtol=1e-3, atol=1e-9)
    assert result.relevance["a"].isfinite().all()


def test_activations_keep_their_derivative_when_asked():
    z = random(5)
    result = propagated(torch_of("silu"), AttnLRP(activation="gradient").composite, z=z)
    at = z.clone().requires_grad_(True)
    (derivative,) = torch.autograd.grad(F.silu(at).sum(), at)
    assert_close(result.relevance["z"][0], z * derivative)
    assert line(result, "non-linearities") == pytest.approx((F.silu(z) - z * derivative).sum().item())


def torch_of(name: str) -> Callable[..., Tensor]:
    return lambda z: getattr(F, name)(z)


@lrp
@pytest.mark.parametrize("function", [F.relu, partial(F.leaky_relu, negative_slope=0.2), torch.abs])
def test_piecewise_linear_functions_pass_everything(function, composite):
    x = random(6)
    assert_close(propagated(lambda x: function(x), composite, x=x).relevance["x"][0], function(x))


@lrp
@pytest.mark.parametrize("axis", [1, -1])
def test_a_glu_gives_all_to_its_value(axis, composite):
    x = random(2, 6)
    result = propagated(lambda x: F.glu(x, axis), composite, x=x)
    assert_close(result.relevance["x"][0], torch.cat([F.glu(x, -1), torch.zeros(2, 3)], -1))


CONSTANTS: dict[str, tuple[Callable[..., Tensor], float]] = {
    "a number": (lambda x, c: x + 1, 4.0),
    "a number less": (lambda x, c: 3 - x, 12.0),
    "a buffer": (lambda x, c: x + c, 10.0),
    "a buffer in place": (lambda x, c: x.clone().add_(c), 10.0),
    "cat": (lambda x, c: torch.cat([x, c]), 10.0),
    "stack": (lambda x, c: torch.stack([x, c]), 10.0),
    "where": (lambda x, c: torch.where(c > 2.5, x, c), 3.0),
    "masked_fill": (lambda x, c: x.masked_fill(c > 3.5, 7.0), 7.0),
    "index_put": (lambda x, c: x.index_put((torch.tensor([1, 2]),), tensor(5.0, 6.0)), 11.0),
    "pad": (lambda x, c: F.pad(x, (1, 2), value=2.0), 6.0),
    "addcmul": (lambda x, c: torch.addcmul(c, x, c), 10.0),
    "baddbmm": (lambda x, c: torch.baddbmm(c[None, :, None], x[None, :, None], c[None, :1, None]), 10.0),
    "written into": (lambda x, c: torch.zeros(4, dtype=x.dtype).index_add(0, torch.tensor([0, 1, 2, 3]), x) + 1, 4.0),
    "maximum": (lambda x, c: torch.maximum(x, 100 * c), 1000.0),
    "divided by what is explained": (
        lambda x, c: x + c / x,
        (tensor(1, 2, 3, 4) / tensor(0.5, -1, 2, -2)).sum().item(),
    ),
}


@lrp
@pytest.mark.parametrize("name", CONSTANTS)
def test_what_is_added_and_not_explained_is_a_line_of_the_books(name, composite):
    function, constant = CONSTANTS[name]
    result = propagated(Of(function, c=tensor(1, 2, 3, 4)), composite, x=tensor(0.5, -1, 2, -2))
    # What depends on the input is no constant of the model: the rule makes it one.
    where = "held constant" if name == "divided by what is explained" else "constants"
    assert line(result, where) == pytest.approx(constant)
    assert set(result.ledger.lines) == {"inputs", where}


@lrp
def test_a_mask_of_minus_infinity_takes_nothing(composite):
    mask = torch.full((3, 3), -math.inf, dtype=torch.float64).triu(1)
    result = propagated(
        Of(lambda s, v, mask: (s + mask).softmax(-1) @ v, mask=mask), composite, s=random(3, 3), v=random(3, 2, seed=1)
    )
    assert line(result, "constants") == 0
    assert all(amount.isfinite().all() for amount in result.relevance.values())


@lrp
@pytest.mark.parametrize("layer", [nn.Linear(3, 2), nn.Conv1d(3, 2, 2), nn.ConvTranspose1d(3, 2, 2)])
def test_a_bias_has_an_account_by_its_name(layer, composite):
    layer = layer.double()
    model = Of(lambda x, layer: layer(x), layer=layer)
    x = random(2, 3, 4) if "Conv" in type(layer).__name__ else random(2, 3)
    result = propagated(model, composite, x=x)
    with torch.no_grad():
        layer.bias.zero_()
        without = model(x=x).sum()
    assert set(result.ledger.details["biases"]) == {"layer.bias"}
    exact(result.relevance["x"].sum(), without)


@lrp
def test_batch_norm_in_evaluation_is_a_linear_map_with_a_constant(composite):
    norm = nn.BatchNorm1d(3).double()
    with torch.no_grad():
        norm.running_mean.copy_(random(3, seed=1))
        norm.weight.copy_(random(3, seed=2))
        norm.bias.copy_(random(3, seed=3))
    x = random(2, 3)
    result = propagated(Of(lambda x, norm: norm(x), norm=norm.train()), composite, x=x)
    expected = x * norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    assert_close(result.relevance["x"][0], expected)
    norm.eval()
    assert line(result, "constants") + line(result, "biases") == pytest.approx((norm(x) - expected).sum().item())
    assert line(result, "biases") == pytest.approx(2 * norm.bias.sum().item())


SELECTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "max": lambda x: x.max(-1).values,
    "amax": lambda x: x.amax(-1),
    "topk": lambda x: x.topk(2, -1).values,
    "sort": lambda x: x.sort(-1, descending=True).values[:, :2],
    "median": lambda x: x.median(-1).values,
    "max_pool": lambda x: F.max_pool1d(x, 2),
    "gather": lambda x: x.gather(-1, torch.tensor([[0, 2], [1, 1]])),
}


@lrp
@pytest.mark.parametrize("name", SELECTIONS)
def test_what_is_chosen_gets_all_and_the_rest_nothing(name, composite):
    x = random(2, 5)
    chosen = SELECTIONS[name](x)
    relevance = propagated(lambda x: SELECTIONS[name](x), composite, x=x).relevance["x"][0]
    exact(relevance.sum(), chosen.sum())
    assert (relevance != 0).sum() <= chosen.numel()


PRODUCTS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], tuple[int, ...], tuple[int, ...]]] = {
    "mm": (torch.mm, (2, 3), (3, 4)),
    "bmm": (torch.bmm, (2, 2, 3), (2, 3, 4)),
    "mv": (torch.mv, (2, 3), (3,)),
    "dot": (torch.dot, (3,), (3,)),
    "outer": (torch.outer, (3,), (2,)),
    "einsum": (partial(torch.einsum, "bhqd,bhkd->bhqk"), (1, 2, 3, 4), (1, 2, 5, 4)),
    "broadcast": (torch.mul, (2, 3, 1), (3, 4)),
    "addcmul": (lambda a, b: torch.addcmul(torch.ones(3, dtype=a.dtype), a, b), (3,), (3,)),
    "linear": (lambda a, b: F.linear(a, b), (2, 3), (4, 3)),
    "conv1d": (lambda a, b: F.conv1d(a, b), (1, 2, 5), (3, 2, 2)),
    "baddbmm": (
        lambda a, b: torch.baddbmm(torch.ones(1, dtype=a.dtype), a, b, beta=0.5, alpha=2.0),
        (2, 2, 3),
        (2, 3, 4),
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_every_kind_of_product_is_shared_by_halves_element_by_element(name):
    function, *shapes = PRODUCTS[name]
    a, b = (random(*shape, seed=i) for i, shape in enumerate(shapes))
    result = propagated(lambda a, b: function(a, b), ATTNLRP, a=a, b=b)
    leaves = [a.clone().requires_grad_(True), b.clone().requires_grad_(True)]
    gradients = torch.autograd.grad(function(*leaves).sum(), leaves)
    for leaf, value, gradient in zip("ab", (a, b), gradients, strict=True):
        exact(result.relevance[leaf][0], value * gradient / 2)


@lrp
@given(st.lists(number, min_size=6, max_size=6))
def test_a_quotient_belongs_to_its_numerator(composite, values):
    a, b = tensor(*values[:3]), tensor(*values[3:])
    result = propagated(lambda a, b: a / b, composite, a=a, b=b)
    assert_close(result.relevance["a"][0], a / b)
    assert (result.relevance["b"] == 0).all()
    assert_close(propagated(lambda a: a / 3, composite, a=a).relevance["a"][0], a / 3)


@given(st.lists(number, min_size=4, max_size=4), st.sampled_from([ATTNLRP, CP_LRP, GRADIENT, FLAT]))
def test_sums_share_by_what_each_term_is(values, composite):
    a, b = tensor(*values[:2]), tensor(*values[2:])
    result = propagated(lambda a, b: torch.sub(a, b, alpha=2).flip(0).roll(1).sum()[None], composite, a=a, b=b)
    assert_close(result.relevance["a"][0], a)
    assert_close(result.relevance["b"][0], -2 * b)


class FusedSwiGLU(torch.autograd.Function):
    """silu(g)·u in one kernel, as fused implementations have it."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, u: Tensor) -> Tensor:
        ctx.save_for_backward(g, u)
        return F.silu(g) * u

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        g, u = ctx.saved_tensors
        s = g.sigmoid()
        return grad * u * s * (1 + g * (1 - s)), grad * F.silu(g)


class GatedMLP(nn.Module):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate_proj, self.up_proj, self.down_proj = (nn.Linear(*s).double() for s in ((3, 4), (3, 4), (4, 2)))
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        g, u = self.gate_proj(x), self.up_proj(x)
        return self.down_proj(FusedSwiGLU.apply(g, u) if self.fused else F.silu(g) * u)


class Block(nn.Module):
    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList([mlp])

    def forward(self, x: Tensor) -> Tensor:
        return x[..., :2] + self.layers[0](x)


@pytest.fixture
def swiglu_rule():
    @register_rule(FusedSwiGLU)
    def fused_swiglu(operation: Operation) -> Treatment:
        g, u = operation.node.saved_tensors
        half = 1.0 if operation.options.gate == "cut" else 0.5

        def derivative(arguments: Any, results: Any) -> Any:
            (grad,) = results
            return (1 - half) * grad * u * g.sigmoid(), half * grad * F.silu(g)

        return Treatment(kind="product", rule="as written out", derivative=derivative)

    yield
    unregister_rule(FusedSwiGLU)


def test_an_unknown_kernel_is_refused_with_its_name_its_place_and_what_to_do():
    trace = record(Block(GatedMLP(True)), {"x": random(2, 3)})
    with pytest.raises(UnknownOperation) as refused:
        trace.propagate(trace.output, torch.ones(1, 2, 2), ATTNLRP)
    message = str(refused.value)
    assert "\n" not in message
    assert "'FusedSwiGLU'" in message
    assert "layers.0" in message
    assert "register_rule('FusedSwiGLU')" in message


@lrp
@pytest.mark.usefixtures("swiglu_rule")
def test_a_kernel_with_a_registered_rule_equals_the_unfused_model(composite):
    fused, plain = (propagated(Block(GatedMLP(f)), composite, x=random(2, 3)) for f in (True, False))
    exact(fused.relevance["x"], plain.relevance["x"])
    exact(fused.ledger.lines, plain.ledger.lines)


def test_a_rule_that_was_unregistered_is_gone(swiglu_rule):
    unregister_rule(FusedSwiGLU)
    unregister_rule("never there")
    with pytest.raises(UnknownOperation):
        propagated(Block(GatedMLP(True)), ATTNLRP, x=random(2, 3))


def test_an_unknown_operation_that_no_relevance_reaches_is_none_of_our_business():
    result = propagated(lambda x, y: x + 0 * y.detach().lgamma(), ATTNLRP, x=random(3), y=random(3).abs())
    exact(result.relevance["x"][0], random(3))


def refusal(model: nn.Module, composite: Composite, **inputs: Tensor) -> str:
    trace = record(model, inputs)
    with pytest.raises(NonFiniteRelevance) as refused:
        trace.propagate(trace.output, torch.ones(1, *trace.output.shape, dtype=trace.output.dtype), composite)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_weights_that_are_nan_are_named():
    model = Block(GatedMLP(False))
    with torch.no_grad():
        model.layers[0].up_proj.weight[1, 2] = math.nan
    assert "'layers.0.up_proj.weight'" in refusal(model, ATTNLRP, x=random(2, 3))


def test_the_module_that_first_returns_infinity_is_named():
    model = Of(lambda x, first, second: second(first(x)), first=Of(lambda x: x * 1e308 * 1e308), second=nn.Identity())
    model.first.forward = lambda x: x * 1e308 * 1e308
    assert "first in first;" in refusal(model, ATTNLRP, x=random(3))


def test_the_operation_where_a_gradient_is_lost_is_named():
    model = Of(lambda x, inner: inner(x=x) + 1, inner=Of(lambda x: x.sqrt()))
    message = refusal(model, GRADIENT, x=tensor(0.0, 1.0))
    assert "'Sqrt' in inner" in message


def test_a_composite_prints_its_rules_and_where_others_apply():
    text = str(ATTNLRP.from_layer(3, CP_LRP))
    assert text.splitlines()[0].startswith("attnlrp+cp-lrp: attention uniform, product uniform")
    assert "layers 3–…: cp-lrp (attention values" in text


def test_composites_are_equal_by_what_they_hold_and_survive_json():
    import json

    nested = ATTNLRP.from_layer(1, CP_LRP).within(GRADIENT, modules="*.mlp", last_layer=4)
    for composite in (GRADIENT, ATTNLRP, CP_LRP, nested):
        again = Composite.from_dict(json.loads(json.dumps(composite.to_dict())))
        assert again == composite
        assert hash(again) == hash(composite)
    assert AttnLRP().composite == ATTNLRP
    assert AttnLRP(product="flat").composite != ATTNLRP


def test_a_misspelt_option_is_a_type_error_and_a_wrong_choice_is_explained():
    with pytest.raises(TypeError, match="atention"):
        Composite(atention="values")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="gates"):
        AttnLRP(gates="cut")  # type: ignore[call-arg]
    with unchecked(), pytest.raises(ApportionError, match="norm='fused' is not known; use one of 'gradient', 'frozen'"):
        Composite(norm="fused")  # type: ignore[arg-type]


class MyAttention(nn.Module):
    """Calls itself an attention and only mixes."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3, 3).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x)


def test_an_attention_without_attention_is_noticed():
    model = Of(lambda x, attn: attn(x) + x, attn=MyAttention())
    trace = record(model, {"x": random(2, 3)})
    audit = trace.audit(trace.output, CP_LRP)
    with pytest.raises(RuleNotApplied, match=r"cp-lrp promises attention values, .* attn \(MyAttention\)"):
        audit.check()
    assert "MyAttention" in repr(audit)
    trace.audit(trace.output, GRADIENT).check()  # which promises nothing


@pytest.mark.parametrize("name", ["llama", "bert", "mamba", "mixtral", "t5", "gemma2"])
def test_the_audit_of_a_model_passes_and_groups_by_module(name):
    trace = record(build(name), inputs_of(name))
    for composite in (ATTNLRP, CP_LRP, FLAT):
        audit = trace.audit(trace.output.logits, composite).check()
        keys = [(row.module, row.operation, row.kind, row.rule) for row in audit.rows]
        assert len(set(keys)) == len(keys)
        assert 0 < audit.reached <= audit.recorded
        assert "every promised rule was applied" in repr(audit)
        assert len(repr(audit)) < 20_000


def test_the_audit_tells_attention_norm_and_gate_by_their_module():
    trace = record(build("llama", attn_implementation="eager"), inputs_of("llama"))
    found = trace.audit(trace.output.logits, ATTNLRP).rows
    rows = {(r.module, r.operation): r for r in found}
    assert rows["model.layers.1.self_attn", "Softmax"].kind == "attention"
    assert sum(r.count for r in found if (r.module, r.operation) == ("model.layers.1.self_attn", "Bmm")) == 2
    assert rows["model.layers.0.mlp.act_fn", "Silu"].rule == "f(z)/z"
    assert rows["model.norm", "Rsqrt"].kind == "statistic"


@pytest.mark.parametrize(
    ("pad", "bias", "repeated"),
    [((0, 0, 0, 0), False, 0), ((0, -1, 0, 0), False, 0), ((0, 0, 0, 0), True, 0), ((0, -1, 2, 0), False, 1)],
)
def test_only_what_may_hold_a_constant_costs_a_second_pass(pad, bias, repeated):
    convolution = nn.Conv2d(3, 4, 2, bias=bias).double()
    model = Of(lambda x, convolution: torch.constant_pad_nd(convolution(x), pad, 3), convolution=convolution)
    trace = record(model, {"x": random(1, 3, 5, 5)})
    ledger = trace.propagate(trace.output, torch.ones_like(trace.output)[None], ATTNLRP).ledger
    assert trace.repeated == repeated
    assert ("constants" in ledger.lines) == bool(repeated)
    assert (ledger.relative_residual < 1e-12).all()
