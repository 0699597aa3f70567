"""The payoff of the metagame: what a method attributes when only some features are present."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

import apportion as ap
from apportion.games import players_of
from apportion.games.values._coalitions import all_coalitions
from apportion.metagame import attribution_payoff
from apportion.methods import as_method
from tests.architectures import build
from tests.asking import with_game

closely = partial(assert_close, rtol=1e-8, atol=1e-10)
IDS = [5, 9, 3, 7, 2]
SIZES: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}
METHODS = ("attnlrp", "cp-lrp", "input-x-gradient", "integrated-gradients", "rollout", "leave-one-out")


def llama() -> ap.Explainer:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=2, bos_token_id=1)).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return ap.Explainer(model)


def bert() -> ap.Explainer:
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**SIZES, num_labels=3)).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return ap.Explainer(model)


def payoffs(
    explainer: ap.Explainer, ids: list[int], method: str, masker: str, coalitions: Tensor, **asked: Any
) -> Tensor:
    targets = asked.pop("targets", [ap.Target(4)])
    task = explainer.prepare(ids, targets, [as_method(method)])
    players = players_of(task, 0)
    groups = asked.pop("groups", players.groups)
    return attribution_payoff(task, as_method(method), players, masker, groups)(coalitions)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("explainer", [llama(), bert()], ids=["causal", "classifier"])
def test_a_coalition_is_paid_the_attribution_of_the_prompt_without_the_others(
    explainer: ap.Explainer, method: str
) -> None:
    target = 4 if isinstance(explainer.model, LlamaForCausalLM) else 1
    coalitions = all_coalitions(5)[[1, 6, 21, 30, 31]]
    found = payoffs(explainer, IDS, method, "delete", coalitions, targets=[ap.Target(target)])
    for row, present in zip(found, coalitions, strict=True):
        kept = present.nonzero().flatten().tolist()
        alone = explainer.explain([IDS[i] for i in kept], target=target, method=method)
        closely(row[kept], alone.scores.double())
        assert bool((row[~present] == 0).all())


@pytest.mark.parametrize(("masker", "absent"), [("replace(7)", 7), ("replace(0)", 0)])
def test_replaced_tokens_are_read_and_get_nothing(masker: str, absent: int) -> None:
    explainer, coalitions = llama(), all_coalitions(5)[[9, 22]]
    found = payoffs(explainer, IDS, "attnlrp", masker, coalitions)
    for row, present in zip(found, coalitions, strict=True):
        ids = [i if there else absent for i, there in zip(IDS, present.tolist(), strict=True)]
        closely(row, explainer.explain(ids, target=4).scores.double() * present)


def test_with_embeddings_of_zeros_the_method_reads_embeddings() -> None:
    explainer, coalitions = llama(), all_coalitions(5)[[9, 31]]
    found = payoffs(explainer, IDS, "input-x-gradient", "zero", coalitions)
    embedded = explainer.model.get_input_embeddings()(torch.tensor([IDS])).detach()
    for row, present in zip(found, coalitions, strict=True):
        inputs = {"inputs_embeds": embedded * present[None, :, None]}
        closely(row, explainer.explain(inputs, target=4, method="input-x-gradient").scores.double() * present)


def test_a_whole_answer_is_one_target_and_is_always_present() -> None:
    explainer, answer = llama(), (8, 11, 4)
    coalitions = all_coalitions(5)[[3, 28]]
    groups = [(i,) for i in range(7)]  # the last token of the answer is only predicted
    found = payoffs(explainer, IDS, "attnlrp", "delete", coalitions, targets=[ap.Span(answer)], groups=groups)
    for row, present in zip(found, coalitions, strict=True):
        kept = present.nonzero().flatten().tolist()
        alone = explainer.explain([IDS[i] for i in kept], target=ap.Span(answer)).scores.double()
        closely(row[[*kept, 5, 6]], alone)
        assert bool((row[:5][~present] == 0).all())
        assert bool((row[5:7] != 0).all())  # the answer's own tokens have shares too


def test_several_targets_share_the_passes() -> None:
    explainer, coalitions = llama(), all_coalitions(5)[1:]
    task = explainer.prepare(IDS, [ap.Target(4), ap.Target(6)], [as_method("attnlrp")])
    players = players_of(task, 0)
    _ = task.target_values
    before = task.passes.forward
    found = attribution_payoff(task, as_method("attnlrp"), players, "delete", players.groups)(coalitions)
    assert found.shape == (31, 10)
    assert task.passes.forward - before == 31
    for t, target in enumerate((4, 6)):
        alone = payoffs(explainer, IDS, "attnlrp", "delete", coalitions, targets=[ap.Target(target)])
        closely(found[:, 5 * t : 5 * t + 5], alone)


def test_the_most_likely_output_is_fixed_by_the_whole_prompt() -> None:
    explainer = llama()
    named = explainer.explain(IDS).prediction[0][0]
    found = explainer.interactions(IDS, progress=False)
    assert found.target.label == named
    closely(found.values, explainer.interactions(IDS, target=int(named), progress=False).values)


def test_scores_of_groups_are_summed_over_those_that_are_present() -> None:
    explainer, coalitions = llama(), all_coalitions(5)[[13]]
    one_by_one = payoffs(explainer, IDS, "cp-lrp", "delete", coalitions)
    together = payoffs(explainer, IDS, "cp-lrp", "delete", coalitions, groups=[(0, 1), (2, 3, 4)])
    closely(together[0], torch.stack([one_by_one[0, :2].sum(), one_by_one[0, 2:].sum()]))


def test_patches_of_an_image_play_too() -> None:
    built = build("image_classification", "vit")
    explainer = ap.Explainer(built.model)
    regions = torch.arange(4).reshape(2, 2).repeat_interleave(built.inputs["pixel_values"].shape[-1] // 2, 0)
    regions = regions.repeat_interleave(built.inputs["pixel_values"].shape[-1] // 2, 1)
    found = explainer.interactions(
        built.inputs, target=0, regions=regions, progress=False, game=ap.Game(players="patches")
    )
    whole = explainer.explain(built.inputs, target=0, regions=regions)
    closely(found.first_order, whole.scores.double())
    assert float(found.gap.abs().max()) < 1e-10
    assert found.evaluations == 15


def test_a_method_with_players_of_its_own_is_refused() -> None:
    method = ap.Shapley(features="words", budget=16)
    with pytest.raises(ap.ApportionError, match="leave its option features at 'tokens'"):
        llama().interactions(IDS, target=4, method=method, progress=False)


def test_a_function_of_the_output_sees_one_coalition_at_a_time() -> None:
    explainer, asked = llama(), {"masker": "replace(0)", "method": "input-x-gradient", "progress": False}
    named = explainer.interactions(IDS, target=4, **with_game(**asked))
    closely(
        explainer.interactions(IDS, target=lambda output: output.logits[0, -1, 4], **with_game(**asked)).values,
        named.values,
    )
