"""How a composite splits relevance between queries, keys and values, and between a gate and what it gates."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from apportion import ApportionError
from apportion.relevance import ATTNLRP, CP_LRP, Composite, record
from tests.tiny import Of, build, inputs_of

UNEVEN = replace(ATTNLRP, query_share=0.1, key_share=0.3)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def written_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT / math.sqrt(3)).softmax(-1) @ v


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(*(x[None, None] for x in (q, k, v)))[0, 0]


def relevance(function, composite: Composite, **inputs: Tensor) -> dict[str, Tensor]:
    trace = record(Of(function), inputs)
    result = trace.propagate(trace.output, torch.ones_like(trace.output)[None], composite)
    assert result.ledger.residual.abs().item() < 1e-9
    return {name: amount[0] for name, amount in result.relevance.items()}


@pytest.mark.parametrize("function", [written_out, fused])
def test_a_head_is_divided_as_the_shares_say(function):
    q, k, v = (random(4, 3, seed=i) for i in range(3))
    found = relevance(function, UNEVEN, q=q, k=k, v=v)
    out, weights = written_out(q, k, v), (q @ k.mT / math.sqrt(3)).softmax(-1)
    # What the values' part is taken from, and what the softmax passes on of the rest: s ⊙ (g − Σ s g), g = Σ_d v.
    assert_close(found["v"], 0.6 * v * weights.sum(0)[:, None])
    pulled = v.sum(-1)[None, :]
    scores = q @ k.mT / math.sqrt(3) * weights * (pulled - out.sum(-1, keepdim=True))
    assert_close(found["q"].sum(), 0.1 * scores.sum())
    assert_close(found["k"].sum(), 0.3 * scores.sum())
    assert_close(found["k"].sum(-1), 0.3 * scores.sum(0))


def test_with_all_to_the_values_nothing_reaches_the_scores():
    q, k, v = (random(4, 3, seed=i) for i in range(3))
    found = relevance(fused, replace(ATTNLRP, query_share=0.0, key_share=0.0), q=q, k=k, v=v)
    assert_close(found["v"], relevance(fused, replace(ATTNLRP, attention="values"), q=q, k=k, v=v)["v"])
    assert found["q"].abs().max() == 0


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_a_gated_product_is_split_as_the_share_says(share):
    x, y = random(5, seed=0), random(5, seed=1)
    found = relevance(lambda x, y: F.silu(x) * y, replace(ATTNLRP, gate_share=share), x=x, y=y)
    assert_close(found["x"], share * F.silu(x) * y)
    assert_close(found["y"], (1 - share) * F.silu(x) * y)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "mixtral"])
def test_whatever_the_shares_the_kernels_agree_and_the_books_balance(name):
    composite = replace(UNEVEN, gate_share=0.3)
    found = []
    for attention in ("eager", "sdpa"):
        trace = record(build(name, attn_implementation=attention), inputs_of(name))
        logits = trace.output.logits
        seed = torch.zeros_like(logits)
        seed[0, -1, 3] = 1
        result = trace.propagate(logits, seed[None], composite)
        assert result.ledger.relative_residual.item() < 1e-6
        found.append(result.relevance)
    for leaf, amount in found[0].items():
        assert_close(amount, found[1][leaf], rtol=1e-6, atol=1e-8)
    assert any((amount != 0).any() for amount in found[0].values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query_share": 0.6, "key_share": 0.6}, "more than 1"),
        ({"gate_share": 1.5}, "from 0 to 1"),
        ({"key_share": -0.1}, "from 0 to 1"),
    ],
)
def test_shares_that_are_none_are_refused(options, message):
    with pytest.raises(ApportionError, match=message):
        replace(ATTNLRP, **options)


def test_a_share_that_is_not_the_usual_one_is_printed():
    assert "query_share 0.1" in str(UNEVEN)
    assert "query_share" not in str(CP_LRP)
