"""Neighbours: indices against their definitions on random games, integrated Hessians against torch's derivatives."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from itertools import combinations, permutations
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForCausalLM

import apportion as ap
from apportion.games import CooperativeGame, exact_shapley, players_of, shapley_interaction, shapley_taylor
from apportion.games.values._coalitions import all_coalitions
from apportion.metagame import Game, MetaGame, attribution_payoff, exact, related_index
from apportion.metagame import _restricted as restricted
from apportion.metagame._restricted import restricted_shapley
from apportion.metagame.indices._integrated_hessians import log_nodes
from apportion.metagame.indices._pair_scores import pair_scores
from tests import architectures
from tests.asking import with_game
from tests.checking import unchecked
from tests.tiny import InFloat64, build

exactly = partial(assert_close, rtol=1e-10, atol=1e-10)
few = settings(max_examples=15)
games = st.tuples(st.integers(1, 6), st.integers(0, 10**6))
IDS = [5, 9, 3, 7]
SIZES: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
}


def drawn(players: int, seed: int, outputs: int = 2) -> tuple[Tensor, CooperativeGame]:
    payoffs = torch.randn(2**players, outputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return payoffs, CooperativeGame(
        players, lambda coalitions: payoffs[(coalitions.long() << torch.arange(players)).sum(1)]
    )


def llama(**options: Any) -> ap.Explainer:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=2, bos_token_id=1, **options)).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return ap.Explainer(model)


def second_difference(payoffs: Tensor, i: int, j: int, others: tuple[int, ...]) -> Tensor:
    without = sum(1 << k for k in others)
    return payoffs[without | 1 << i | 1 << j] - payoffs[without | 1 << i] - payoffs[without | 1 << j] + payoffs[without]


@few
@given(games)
def test_pairs_and_singles_are_the_definitions(case: tuple[int, int]) -> None:
    n, seed = case
    payoffs, game = drawn(n, seed)
    taylor, interaction, shapley = shapley_taylor(game), shapley_interaction(game), exact_shapley(game).values
    for i in range(n):
        exactly(taylor.singles[i], payoffs[1 << i] - payoffs[0])
        assert bool((taylor.pairs[i, i] == 0).all())
        assert bool((interaction.pairs[i, i] == 0).all())
    for i, j in permutations(range(n), 2):
        rest = [k for k in range(n) if k not in (i, j)]
        subsets = [some for size in range(len(rest) + 1) for some in combinations(rest, size)]
        of_taylor = sum(2 / (n * math.comb(n - 1, len(s))) * second_difference(payoffs, i, j, s) for s in subsets)
        of_interaction = sum(
            math.factorial(len(s))
            * math.factorial(n - len(s) - 2)
            / math.factorial(n - 1)
            * second_difference(payoffs, i, j, s)
            for s in subsets
        )
        exactly(taylor.pairs[i, j], of_taylor)
        exactly(interaction.pairs[i, j], of_interaction)
    for found in (taylor, interaction):
        exactly(found.shapley, shapley)
        exactly(found.singles + found.pairs.sum(1) / 2, shapley)
        exactly(found.singles.sum(0) + found.pairs.sum((0, 1)) / 2, payoffs[-1] - payoffs[0])
        assert found.evaluations == 2**n


@few
@given(games)
def test_both_directions_of_meta_shapley_are_the_shapley_taylor_interaction(case: tuple[int, int]) -> None:
    n, seed = case
    payoffs, game = drawn(n, seed, outputs=1)
    coalitions = all_coalitions(n)

    def shapley_among(present: Tensor) -> Tensor:
        """The Shapley values of a coalition's members, by playing among them anew."""
        members = present.nonzero().flatten()
        values = torch.zeros(n, dtype=torch.float64)
        if len(members):
            inner = CooperativeGame(len(members), lambda some: payoffs[(some.long() << members).sum(1)])
            values[members] = exact_shapley(inner).values[:, 0]
        return values

    anew = torch.stack([shapley_among(row) for row in coalitions])
    exactly(restricted_shapley(payoffs)[..., 0], anew)
    found = exact(MetaGame(n, lambda some: anew[(some.long() << torch.arange(n)).sum(1)], range(n))).values
    exactly(found, found.T)
    taylor = shapley_taylor(game)
    off = ~torch.eye(n, dtype=torch.bool)
    exactly((found + found.T)[off], taylor.pairs[..., 0][off])
    exactly(found.diagonal(), taylor.singles[:, 0])


def test_more_than_fourteen_players_are_refused_before_anything_is_evaluated() -> None:
    def payoff(coalitions: Tensor) -> Tensor:
        raise AssertionError

    for index in (shapley_taylor, shapley_interaction):
        with pytest.raises(ap.ApportionError, match=r"2\^15 coalitions of 15 players, and at most 14"):
            index(CooperativeGame(15, payoff))


def generic(monkeypatch: pytest.MonkeyPatch, run: Callable[[], Any]) -> Any:
    """The same by playing every coalition's game anew."""
    with monkeypatch.context() as patch:
        patch.setattr("apportion.metagame._play.restricted_payoff", lambda *_, **__: None)
        return run()


@pytest.mark.parametrize(
    ("masker", "asked"),
    [
        ("delete", {}),
        ("delete", {"position": 1}),
        ("delete", {"target": [4, 6]}),
        ("delete", {"target": ap.Span((8, 11))}),
        ("replace(7)", {"order": 3}),
        ("zero", {}),
    ],
)
def test_one_game_gives_what_a_game_for_each_coalition_gives(
    monkeypatch: pytest.MonkeyPatch, masker: str, asked: dict[str, Any]
) -> None:
    explainer, method = llama(), ap.Shapley(masker=masker)
    options = {"target": 4, "method": method, "masker": masker, "progress": False, **asked}
    run = partial(explainer.interactions, IDS, **with_game(**options))
    fast, slow = run(), generic(monkeypatch, run)
    for one, other in zip(fast, slow, strict=True):
        exactly(one.values, other.values)
        exactly(one.first_order, other.first_order)
        exactly(one.main_effect, other.main_effect)
        assert one.source_of == other.source_of
        if one.third is not None:
            exactly(one.third, other.third)
        assert one.cost.forward < other.cost.forward
        assert one.cost.forward <= 2 ** len(one.sources) + 1


def test_groups_that_do_not_play_are_paid_the_sum_of_their_players_and_nothing_where_all_are_absent() -> None:
    explainer, method = llama(), ap.Shapley(masker="delete")
    task = explainer.prepare(IDS, [ap.Span((8, 11))], [method])
    players = players_of(task, 0)
    groups = [(0, 1), (3,), (4,)]  # the last is the answer's
    fast = restricted.restricted_payoff(task, method, players, "delete", groups, progress=False)
    assert fast is not None
    coalitions = all_coalitions(4)
    exactly(fast(coalitions[1:]), attribution_payoff(task, method, players, "delete", groups)(coalitions[1:]))
    assert bool((fast(coalitions[:1]) == 0).all())
    found = explainer.interactions(
        IDS, target=ap.Span((8, 11)), method=method, of={"first": [0, 1], "last": [3]}, game=ap.Game(masker="delete")
    )
    assert found.source_of == (None, 3)
    exactly(found.gap, torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize(
    "options",
    [
        {"method": ap.Shapley(estimator="permutation"), "masker": "delete"},
        {"method": ap.Shapley(masker="zero"), "masker": "delete"},
        {"method": ap.Shapley(), "masker": "delete", "players": {"first": [0], "rest": [1, 2, 3]}},
        {"method": "leave-one-out", "masker": "delete"},
        {"method": ap.Shapley(masker="mean"), "masker": "mean"},
    ],
)
def test_other_rules_are_played_anew(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    made = []
    before = restricted.restricted_payoff

    def watched(*given: Any, **keywords: Any) -> Any:
        made.append(before(*given, **keywords))
        return made[-1]

    monkeypatch.setattr("apportion.metagame._play.restricted_payoff", watched)
    found = llama().interactions(IDS, target=4, progress=False, **with_game(**options))
    assert made == [None]
    assert float(found.gap.abs().max()) < 1e-10


@pytest.mark.parametrize("index", ["shapley-taylor", "shapley-interaction"])
def test_the_indices_of_a_prompt_are_those_of_its_game(index: str) -> None:
    explainer = llama()
    found = explainer.interactions(IDS, target=4, index=index, progress=False, game=ap.Game(masker="delete"))
    kept = [[i for i, there in zip(IDS, row.tolist(), strict=True) if there] or [1] for row in all_coalitions(4)]
    payoffs = torch.tensor([explainer.explain(ids, target=4).explained[0].value for ids in kept], dtype=torch.float64)
    game = CooperativeGame(4, lambda coalitions: payoffs[(coalitions.long() << torch.arange(4)).sum(1)][:, None])
    expected = shapley_taylor(game) if index == "shapley-taylor" else shapley_interaction(game)
    off = ~torch.eye(4, dtype=torch.bool)
    exactly(2 * found.values[off], expected.pairs[..., 0][off])
    exactly(found.diagonal, expected.singles[:, 0])
    exactly(found.gap, torch.zeros(4, dtype=torch.float64))
    exactly(found.first_order, explainer.explain(IDS, target=4, method=ap.Shapley(masker="delete")).scores.double())
    assert (found.index, found.method, found.evaluations) == (index, "shapley", 16)
    assert found.options["masker"] == "delete"


def test_the_shapley_taylor_index_is_meta_shapley() -> None:
    explainer = llama()
    meta = explainer.interactions(IDS, target=4, method="shapley", progress=False)
    taylor = explainer.interactions(IDS, target=4, index="shapley-taylor", progress=False)
    exactly(meta.values, taylor.values)
    exactly(meta.first_order, taylor.first_order)


def hessians_by_hand(of: Callable[[Tensor], Tensor], x: Tensor, baseline: Tensor, steps: int) -> Tensor:
    """The definition at the same points, with torch's own Hessian of the whole model."""
    way, found = x - baseline, torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64)
    for u, weight in zip(*log_nodes(steps), strict=True):
        point = baseline + u * way
        hessian = torch.autograd.functional.hessian(of, point)[0, :, :, 0]
        slope = torch.autograd.functional.jacobian(of, point)[0]
        found += weight * u * torch.einsum("id,idje,je->ij", way[0], hessian, way[0])
        found += weight * (way[0] * slope).sum(-1).diag()
    return found


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("llama", {"target": 4}),
        ("llama", {"target": 4, "unit": "log-probability", "contrast": 6}),
        ("llama", {"target": lambda output: output.logits[0, -1, 4]}),
        ("llama", {"target": 4, "baseline": "mean", "batch_size": 2}),
        ("bert_classifier", {"target": 1}),
    ],
)
def test_integrated_hessians_are_their_definition(name: str, asked: dict[str, Any]) -> None:
    asked, ids = dict(asked), [11, 30, 45, 21]
    method = ap.IntegratedGradients(
        steps=3, baseline=asked.pop("baseline", "zero"), batch_size=asked.pop("batch_size", None)
    )
    model, eager = build(name), build(name, attn_implementation="eager")
    table = model.get_input_embeddings().weight.detach()
    x = table[ids][None]
    start = torch.zeros_like(x) if method.baseline == "zero" else table.mean(0).expand_as(x)

    def of(embeds: Tensor) -> Tensor:
        output = eager(inputs_embeds=embeds)
        if callable(asked["target"]):
            value: Tensor = asked["target"](output)
            return value
        row = output.logits[0] if name == "bert_classifier" else output.logits[0, -1]
        row = row.log_softmax(-1) if "unit" in asked else row
        return row[asked["target"]] - row[asked["contrast"]] if "contrast" in asked else row[asked["target"]]

    with InFloat64():
        found = ap.Explainer(model).interactions(ids, index="integrated-hessians", method=method, **with_game(**asked))
        expected = hessians_by_hand(of, x, start, 3)
    assert_close(found.values, expected, rtol=1e-7, atol=1e-9)
    exactly(found.values, found.values.T)
    assert float(found.between.abs().max()) > 1e-2
    assert found.cost.backward == 3 * 5 + 3


def test_columns_of_integrated_hessians_sum_to_integrated_gradients() -> None:
    explainer, ids, method = ap.Explainer(build("bert_classifier")), [11, 30, 45, 21], "integrated-gradients(steps=64)"
    with InFloat64():
        found = explainer.interactions(ids, target=[1, 2], index="integrated-hessians", method=method)
        single = explainer.explain(ids, target=[1, 2], method=method)
    for one, scores in zip(found, single.scores, strict=True):
        exactly(one.first_order, scores.double())
        assert float(one.gap.abs().max()) < 1e-6 * float(one.first_order.abs().max())


def test_integrated_hessians_of_a_linear_model_have_nothing_between() -> None:
    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = torch.nn.Linear(2, 1).double()

        def forward(self, inputs_embeds: Tensor) -> Any:
            return SimpleNamespace(pooler_output=self.map(inputs_embeds.sum(1)))

    model = Linear()
    x = torch.tensor([[[1.0, 2.0], [0.5, -1.0]]], dtype=torch.float64)
    target = ap.Projection(torch.ones(1, dtype=torch.float64))
    found = ap.Explainer(model).interactions({"inputs_embeds": x}, target=target, index="integrated-hessians")
    exactly(found.values, (x[0] @ model.map.weight[0]).detach().diag())


def test_patches_of_an_image_have_integrated_hessians_too() -> None:
    built = architectures.build("image_classification", "vit")
    side = built.inputs["pixel_values"].shape[-1] // 2
    regions = torch.arange(4).reshape(2, 2).repeat_interleave(side, 0).repeat_interleave(side, 1)
    asked = {"target": 0, "regions": regions, "method": "integrated-gradients(steps=64)"}
    found = ap.Explainer(built.model).interactions(built.inputs, index="integrated-hessians", **with_game(**asked))
    exactly(found.values, found.values.T)
    exactly(found.first_order, ap.Explainer(built.model).explain(built.inputs, **with_game(**asked)).scores.double())
    assert float(found.gap.abs().max()) < 1e-3 * float(found.first_order.abs().max())
    assert [feature.kind for feature in found.sources] == ["region"] * 4


def test_scores_of_pairs_are_absolute_sums_of_the_first_order() -> None:
    explainer = llama()
    found = explainer.interactions(
        IDS, target=4, index="first-order-pairs", method="cp-lrp", game=ap.Game(players={"ab": [0, 1], "c": [2]})
    )
    scores = explainer.explain(IDS, target=4, method="cp-lrp").scores.double()
    one, other = scores[:2].sum(), scores[2]
    exactly(found.first_order, torch.stack([one, other]))
    exactly(found.values, torch.stack([one, one + other, one + other, other]).abs().reshape(2, 2))
    assert not found.adds_up
    with pytest.raises(ap.ApportionError, match="players='words'"):
        found.words()
    assert pair_scores(torch.zeros(1, 1)).shape == (1, 1, 1)


METHODS = (
    "attnlrp",
    "cp-lrp",
    "input-x-gradient",
    "integrated-gradients(steps=4)",
    "shapley",
    "leave-one-out",
    "alti-logit",
    "rollout",
)


@pytest.mark.parametrize("method", METHODS)
def test_the_exact_metagame_divides_every_methods_attribution_wholly(method: str) -> None:
    explainer = llama()
    found = explainer.interactions(
        IDS, target=4, method=method, progress=False, game=ap.Game(masker="delete", estimator="exact")
    )
    given = method if method != "shapley" else ap.Shapley(masker="delete")
    exactly(found.first_order, explainer.explain(IDS, target=4, method=given).scores.double())
    assert float(found.gap.abs().max()) < 1e-6 * float(found.first_order.abs().max())
    symmetric = float(found.antisymmetric.abs().max()) < 1e-9 * float(found.values.abs().max())
    # What a feature adds to those present, as both of these are, changes by another as that one's by it.
    assert symmetric == (method in ("shapley", "leave-one-out"))


def test_nothing_is_kept_in_a_file() -> None:
    method = ap.Shapley()
    task = llama().prepare(IDS, [ap.Target(4)], [method])
    with pytest.raises(ap.ApportionError, match="has no use for path='kept'"):
        related_index(task, method, Game(path="kept"), "shapley-taylor", progress=False)


def test_players_of_one_prompt_alone_have_no_pairs() -> None:
    for index in ("shapley-taylor", "shapley-interaction", "integrated-hessians", "first-order-pairs"):
        found = llama().interactions([5], target=4, index=index, progress=False)
        assert found.values.shape == (1, 1)
        assert bool(torch.isfinite(found.values).all())


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"index": "banzhaf"}, "index='banzhaf' is not known; use 'metagame'"),
        ({"index": "shapley-taylor", "method": "attnlrp"}, "leave method out"),
        ({"index": "shapley-taylor", "method": ap.Shapley(masker="zero")}, "give players and masker to interactions"),
        ({"index": "shapley-taylor", "of": "features"}, "has no use for of='features'"),
        ({"index": "shapley-interaction", "order": 3}, "has no use for order=3"),
        ({"index": "shapley-interaction", "budget": 7}, "16 coalitions are needed, but budget=7"),
        ({"index": "integrated-hessians", "masker": "zero"}, "has no use for masker='zero'"),
        ({"index": "integrated-hessians", "method": "attnlrp"}, "belongs to integrated gradients"),
        ({"index": "integrated-hessians", "method": "integrated-gradients(quadrature='trapezoid')"}, "of its own"),
        (
            {"index": "first-order-pairs", "method": ap.Shapley(features="words")},
            "leave its option features at 'tokens'",
        ),
    ],
)
def test_what_does_not_fit_an_index_is_refused_in_one_line(asked: dict[str, Any], said: str) -> None:
    with unchecked(), pytest.raises(ap.ApportionError, match=re.escape(said)) as error:
        llama().interactions(IDS, target=4, progress=False, **with_game(**asked))
    assert "\n" not in str(error.value)
