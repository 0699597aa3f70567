"""Implementation invariance: the counterexamples by hand, through the engine and through the front door."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from apportion import ATTNLRP, GRADIENT, ApportionError, AttnLRP, Composite, Explainer
from apportion.evaluation import Disagreement, implementation_invariance
from apportion.relevance import record
from benchmarks.studies._linear_attention import by_scores, by_state
from tests.tiny import InFloat64, Of, build, tokenizer

TEXT = "The man who owns the dogs"
FLAT = AttnLRP(product="flat").composite


@pytest.fixture(autouse=True)
def in_float64():
    with InFloat64():
        yield


def relevance(function: Any, composite: Composite, **inputs: Tensor) -> dict[str, Tensor]:
    trace = record(Of(function), inputs)
    propagated = trace.propagate(trace.output, torch.ones_like(trace.output)[None], composite, ledger=False)
    return {name: propagated.relevance[name][0] for name in inputs}


def left(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return (a * b) * c


def right(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return a * (b * c)


@pytest.mark.parametrize(
    ("function", "composite", "shares"),
    [
        (left, ATTNLRP, [6, 6, 12]),
        (right, ATTNLRP, [12, 6, 6]),
        (left, FLAT, [8, 8, 8]),
        (right, FLAT, [8, 8, 8]),
        (left, GRADIENT, [24, 24, 24]),
        (right, GRADIENT, [24, 24, 24]),
    ],
)
def test_the_product_of_2_3_and_4_as_it_is_associated(function, composite, shares):
    given = {name: torch.tensor([factor]).double() for name, factor in (("a", 2), ("b", 3), ("c", 4))}
    found = relevance(function, composite, **given)
    assert_close(torch.cat(list(found.values())), torch.tensor(shares).double())


def heads() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(1, 2, 5, width, generator=generator, dtype=torch.float64)
        for name, width in (("query", 3), ("key", 3), ("value", 4))
    }


@pytest.mark.parametrize(
    ("function", "composite", "shares"),
    [
        (by_scores, ATTNLRP, (1 / 4, 1 / 4, 1 / 2)),
        (by_state, ATTNLRP, (1 / 2, 1 / 4, 1 / 4)),
        (by_scores, FLAT, (1 / 3, 1 / 3, 1 / 3)),
        (by_state, FLAT, (1 / 3, 1 / 3, 1 / 3)),
        (by_scores, GRADIENT, (1, 1, 1)),
        (by_state, GRADIENT, (1, 1, 1)),
    ],
)
def test_shares_of_query_key_and_value_in_linear_attention(function, composite, shares):
    def summed(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return function(query, key, value).sum()[None]

    total = summed(**heads()).item()
    found = relevance(summed, composite, **heads())
    assert [found[name].sum().item() / total for name in heads()] == pytest.approx(shares)


@pytest.mark.parametrize("cached", [0, 2])
def test_both_orders_are_linear_attention_one_place_at_a_time(cached):
    given = heads()
    query, key, value = given["query"][:, :, cached:], given["key"], given["value"]
    by_hand = torch.zeros(1, 2, 5 - cached, 4).double()
    for head in range(2):
        for place in range(5 - cached):
            for seen in range(place + cached + 1):
                weight = sum(query[0, head, place, d] * key[0, head, seen, d] for d in range(3))
                by_hand[0, head, place] += weight * value[0, head, seen]
    assert_close(by_scores(query, key, value), by_hand)
    assert_close(by_state(query, key, value), by_hand)


class Product(nn.Module):
    """The product of its three tokens' one-dimensional embeddings, 2, 3 and 4."""

    def __init__(self, first: int = 0, factor: float = 1.0) -> None:
        super().__init__()
        self.first, self.factor = first, factor
        self.embedding = nn.Embedding.from_pretrained(torch.tensor([[2.0], [3.0], [4.0]]).double())

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embedding(input_ids)[:, :, 0]
        a, b, c = x.unbind(1)
        return self.factor * (a * (b * c) if self.first else (a * b) * c)


def value(output: Tensor) -> Tensor:
    return output[0]


METHODS = {"attnlrp": "attnlrp", "flat": AttnLRP(product="flat"), "input-x-gradient": "input-x-gradient"}


def test_the_methods_that_depend_on_the_association_are_told():
    found = implementation_invariance(Product(), Product(1), [0, 1, 2], methods=METHODS, target=value)
    # (6, 6, 12) and (12, 6, 6): 12 of 24 apart, 6 of 12 at most.
    assert found.disagreements["attnlrp"] == Disagreement(relative=0.5, largest=0.5)
    assert found.disagreements["flat"].relative < 1e-12
    assert found.disagreements["input-x-gradient"].relative < 1e-12
    assert found.values == (24, 24)
    assert [a.scores.tolist() for a in found.attributions["attnlrp"]] == [[6, 6, 12], [12, 6, 6]]
    frame = found.to_frame()
    assert frame.method.tolist() == list(METHODS)
    assert frame.relative[0] == 0.5


def test_different_functions_are_refused_with_the_difference():
    with pytest.raises(ApportionError, match=r"24 in the one and 26.4 in the other, which differ by 2.4"):
        implementation_invariance(Product(), Product(factor=1.1), [0, 1, 2], methods=METHODS, target=value)


def test_two_implementations_of_attention_agree_under_every_method():
    fused, written = (
        Explainer(build("llama", attn_implementation=name), tokenizer("causal")) for name in ("sdpa", "eager")
    )
    found = implementation_invariance(fused, written, TEXT)
    assert not found.refused
    assert max(one.relative for one in found.disagreements.values()) < 1e-9
    labels = {attribution.target.label for pair in found.attributions.values() for attribution in pair}
    assert len(labels) == 1


def test_a_method_that_refuses_is_named():
    found = implementation_invariance(Product(), Product(1), [0, 1, 2], methods=["attnlrp", "rollout"], target=value)
    assert list(found.disagreements) == ["attnlrp"]
    assert list(found.refused) == ["rollout"]


def test_other_tokens_and_several_targets_are_refused():
    one = Explainer(build("llama"), tokenizer("causal"))
    with pytest.raises(ApportionError, match="tokens to the one model"):
        implementation_invariance(one, Explainer(build("llama"), tokenizer("masked")), TEXT)
    with pytest.raises(ApportionError, match="one target at a time"):
        implementation_invariance(one, one, TEXT, target=[5, 6])


@pytest.mark.parametrize(
    ("a", "b", "relative", "largest"),
    [
        ([1, -2], [1, -2], 0, 0),
        ([1, -2], [-1, 2], 2, 2),
        ([1, 0], [0, 1], 2, 1),
        ([0, 0], [0, 0], 0, 0),
        ([3, 1], [1, 3], 1, 2 / 3),
    ],
)
def test_disagreement_by_hand(a, b, relative, largest):
    found = Disagreement.between(torch.tensor(a).double(), torch.tensor(b).double())
    assert (found.relative, found.largest) == pytest.approx((relative, largest))
