"""Kinds of model and of target are types: a new one is a class, and everything that asks about it serves it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutput

import apportion as ap
from apportion.models import Kind, kind_of_model, register_kind
from apportion.models.kinds import KINDS
from apportion.targets import AnyTarget, At, NamedOutputs, TargetFn
from tests.tiny import tiny

IDS = [5, 2, 7, 3]


class Looker(nn.Module):
    """A model whose logits at each token are those of the token after it, and of the last one its own."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 9, dtype=torch.float64)
        nn.init.normal_(self.table.weight, generator=torch.Generator().manual_seed(0))

    def get_input_embeddings(self) -> nn.Module:
        return self.table

    def forward(self, input_ids: Tensor) -> Any:
        hidden = self.table(input_ids)
        return CausalLMOutput(logits=torch.cat([hidden[:, 1:], hidden[:, -1:]], 1))


class Subclass(Looker):
    """Of the same kind, since it inherits."""


@pytest.fixture
def of_first_token() -> Iterator[None]:
    @register_kind("first-token")
    class FirstToken(Kind):
        """Predicts at the first token, unless a position is given."""

        per_token = True

        def claims(self, class_name: str, model: nn.Module) -> bool:
            return class_name == "Looker"

        def row(self, prompt: Any, length: int, tokenizer: Any) -> int:
            return 0

    yield
    del KINDS["first-token"]


@pytest.mark.usefixtures("of_first_token")
def test_a_new_kind_tells_where_its_models_are_read() -> None:
    model = Subclass()
    assert kind_of_model(model).name == "first-token"
    found = ap.Explainer(model).explain(IDS, target=4, method="input-x-gradient")
    weights = model.table.weight.detach()
    assert found.target.value == weights[IDS[1], 4].item()
    torch.testing.assert_close(found.scores, torch.tensor([0, weights[IDS[1], 4].item(), 0, 0], dtype=torch.float64))
    later = ap.Explainer(model).explain(IDS, target=4, position=1, method="input-x-gradient")
    assert later.target.value == weights[IDS[2], 4].item()
    with pytest.raises(ap.ApportionError, match="a continuation, which Subclass does not write"):
        ap.Explainer(model).explain(IDS, target=ap.Span((1, 2)))
    with pytest.raises(ap.ApportionError, match="Subclass writes no answers"):
        ap.Explainer(model).answer(IDS, [1, 2])


@pytest.mark.usefixtures("of_first_token")
def test_a_name_of_a_kind_is_taken_once() -> None:
    with pytest.raises(ap.ApportionError, match=r"'first-token' is taken by FirstToken"):

        @register_kind("first-token")
        class Another(Kind):
            pass


def test_kinds_are_told_by_class() -> None:
    names = {name: kind_of_model(tiny(name)).name for name in ("llama", "bert", "t5", "bert_classifier")}
    names["none"] = kind_of_model(Looker()).name
    assert names == {
        "llama": "causal",
        "bert": "masked",
        "t5": "seq2seq",
        "bert_classifier": "sequence-classification",
        "none": "other",
    }


@dataclass(frozen=True)
class Margin(AnyTarget):
    """How far the most likely output is ahead of the second."""

    names_outputs: ClassVar[bool] = True

    def rows(self, prompt: Any, head: NamedOutputs) -> tuple[int, ...]:
        return head.row(prompt, None)

    def resolved(self, head: NamedOutputs, at: At, logits: Tensor) -> AnyTarget:
        first, second = logits[at.example][at.rows].topk(2).indices.tolist()
        return ap.Target(first, contrast=(second,))

    def as_function(self, head: NamedOutputs, at: At, logits: Tensor) -> TargetFn:
        return self.resolved(head, at, logits).as_function(head, at, logits)


@pytest.mark.parametrize("method", ["attnlrp", "leave-one-out", "shapley(budget=32)"])
def test_a_new_target_is_divided_as_the_difference_that_it_is(method: str) -> None:
    explainer = ap.Explainer(tiny("llama"))
    with torch.no_grad():
        best = tiny("llama")(input_ids=torch.tensor([IDS])).logits[0, -1].topk(2)
    first, second = best.indices.tolist()
    margin = explainer.explain(IDS, target=Margin(), method=method)
    same = explainer.explain(IDS, target=first, contrast=second, method=method)
    torch.testing.assert_close(margin.target.value, (best.values[0] - best.values[1]).item())
    torch.testing.assert_close(margin.scores, same.scores)


def test_targets_state_what_others_ask_of_them() -> None:
    plain, contrast, span = ap.Target(3), ap.Target(3, (4, 5), unit="log-probability"), ap.Span((1, 2, 3))
    assert [one.likelihood for one in (plain, contrast, ap.Target(3, unit="probability"), span)] == [
        None,
        None,
        "probability",
        "log-probability",
    ]
    assert contrast.against_each() == [ap.Target(3, (c,), unit="log-probability") for c in (4, 5)]
    assert plain.likeliest() == ap.Target()
    assert ap.Target().likeliest() is None
    assert [ap.Target().against_each(), span.against_each()] == [[], []]
    assert span.own_rows((4, 5, 6)) == (5, 6)
    assert [plain.terms((6,)), span.terms((4, 5, 6))] == [1, 3]
    assert [ap.Cosine(torch.ones(3), of=of).single_place for of in ("pooled", "cls")] == [None, None]
    assert ap.Cosine(torch.ones(3), of="mean").single_place == "mean"
    assert ap.Projection(torch.ones(3), of=(0, 1)).single_place == (0, 1)
