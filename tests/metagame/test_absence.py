"""How players are made absent where the user leaves that open."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForCausalLM

import apportion as ap
from apportion.metagame._absence import masker_of
from apportion.methods import as_method
from tests.tiny import build, tiny, tokenizer

TEXT = "The old dog sees"


def chosen(explainer: ap.Explainer, method: str, masker: str = "auto", place: int | None = None) -> str:
    task = explainer.prepare(TEXT, [ap.Target(4, position=place)], [as_method(method)])
    return masker_of(task, as_method(method), masker).name


class IdsAlone(LlamaForCausalLM):
    """A language model that reads no embeddings."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **options: object) -> object:
        return super().forward(input_ids=input_ids, attention_mask=attention_mask)


class Tagged(LlamaForCausalLM):
    """A language model that adds to what it computes something read off the ids, which embeddings do not have."""

    def forward(
        self, input_ids: Tensor | None = None, inputs_embeds: Tensor | None = None, **options: object
    ) -> object:
        options.pop("use_cache", None)
        output = super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds)
        if input_ids is not None:
            output.logits = output.logits * (1 + input_ids.double().mean())
        return output


def small(kind: type[LlamaForCausalLM]) -> ap.Explainer:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    return ap.Explainer(kind(LlamaConfig(vocab_size=96, **sizes)).double().eval(), tokenizer())


@pytest.mark.parametrize("method", ["attnlrp", "cp-lrp", "input-x-gradient", "rollout", "alti-logit"])
def test_a_language_model_reads_the_mean_embedding(method: str) -> None:
    assert chosen(ap.Explainer(tiny("llama"), tokenizer()), method) == "mean"


def test_a_model_with_a_mask_token_reads_it() -> None:
    explainer = ap.Explainer(build("bert"), tokenizer("masked"))
    assert chosen(explainer, "attnlrp", place=1) == "replace(mask)"


@pytest.mark.parametrize("kind", [IdsAlone, Tagged])
def test_where_embeddings_are_not_read_as_ids_are_tokens_are_deleted(kind: type[LlamaForCausalLM]) -> None:
    assert chosen(small(kind), "attnlrp") == "delete"
    assert chosen(small(LlamaForCausalLM), "attnlrp") == "mean"


@pytest.mark.parametrize(
    ("method", "masker"),
    [("shapley", "delete"), ("leave-one-out", "delete"), ("shapley(masker='replace(0)')", "replace(0)")],
)
def test_a_method_that_makes_features_absent_decides(method: str, masker: str) -> None:
    assert chosen(ap.Explainer(tiny("llama"), tokenizer()), method) == masker


def test_the_users_masker_is_used() -> None:
    explainer = ap.Explainer(tiny("llama"), tokenizer())
    assert chosen(explainer, "attnlrp", "delete") == "delete"
    with pytest.raises(ap.ApportionError, match="for images, and the prompt has none"):
        chosen(explainer, "attnlrp", "blur")


def test_the_result_names_what_was_chosen() -> None:
    explainer = ap.Explainer(build("llama"), tokenizer())
    left_open = explainer.interactions(TEXT, target=4, progress=False)
    named = explainer.interactions(TEXT, target=4, progress=False, game=ap.Game(masker="mean"))
    assert left_open.options["masker"] == "mean"
    assert_close(left_open.values, named.values)
