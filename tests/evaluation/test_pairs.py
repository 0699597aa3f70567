"""Measures of pairs: against their definitions, brute force over orders, and the model itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from itertools import combinations, pairwise, permutations
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForCausalLM

import apportion as ap
from apportion.evaluation import (
    directed_effects,
    directed_payoff,
    effect_captured,
    one_score_a_pair,
    pair_effects,
    pair_payoff,
    pair_recall,
    pair_removal,
    random_recall,
)
from apportion.evaluation.pairs._directed import of_directions
from apportion.evaluation.pairs._one_score import of_pairs
from apportion.games import CooperativeGame
from apportion.metagame import MetaGame, exact

closely = partial(assert_close, rtol=1e-9, atol=1e-10)
IDS = [5, 9, 3, 7]


def game(players: int, worth: Callable[[frozenset[int]], float]) -> CooperativeGame:
    def payoff(coalitions: Tensor) -> Tensor:
        rows = [worth(frozenset(row.nonzero().flatten().tolist())) for row in coalitions]
        return torch.tensor(rows, dtype=torch.float64)[:, None]

    return CooperativeGame(players, payoff)


@cache
def llama() -> ap.Explainer:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 24}
    config = LlamaConfig(**sizes, num_hidden_layers=2, num_attention_heads=2, bos_token_id=1)
    model = LlamaForCausalLM(config).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return ap.Explainer(model)


def symmetric(players: int, seed: int = 0) -> Tensor:
    values = torch.randn(players, players, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return one_score_a_pair(values)


def area(order: tuple[int, ...], sizes: list[float]) -> float:
    total, sums, found = sum(sizes), 0.0, []
    for place in order:
        sums += sizes[place]
        found.append(sums / total)
    return sum(found) / len(found)


def captured(scores: list[float], sizes: list[float]) -> float:
    """Every order by itself: of the scores' orders, of all and of the oracle's."""
    every = list(permutations(range(len(sizes))))
    mean_of = lambda some: sum(area(o, sizes) for o in some) / len(some)  # noqa: E731
    falling = [o for o in every if all(abs(scores[a]) >= abs(scores[b]) for a, b in pairwise(o))]
    random, best = mean_of(every), max(area(o, sizes) for o in every)
    return (mean_of(falling) - random) / (best - random)


def test_players_that_add_up_have_no_effect_in_pairs() -> None:
    found = pair_effects(game(5, lambda s: 3.0 + sum(2.0**i for i in s)))
    assert bool((found.deletion == 0).all())
    assert bool((found.insertion == 0).all())


def test_a_pair_that_belongs_together_is_found_by_deletion_and_insertion() -> None:
    found = pair_effects(game(4, lambda s: 7.0 * ({1, 3} <= s) + len(s)))
    wanted = torch.zeros(4, 4, dtype=torch.float64)
    wanted[1, 3] = wanted[3, 1] = 7
    closely(found.deletion, wanted)
    closely(found.insertion, wanted)
    assert found.evaluations == 2 * (1 + 4 + 6) - 6  # pairs and what is left of four without a pair are the same


def test_a_redundant_pair_shows_on_deletion_and_an_or_has_the_opposite_sign() -> None:
    found = pair_effects(game(3, lambda s: 1.0 * bool(s & {0, 1})))
    assert found.insertion[0, 1] == -1
    assert found.deletion[0, 1] == -1
    three = pair_effects(game(3, lambda s: 1.0 * bool(s)))
    assert three.deletion[0, 1] == 0  # the third stands in for both
    assert three.insertion[0, 1] == -1


def test_effects_of_a_model_are_its_targets_with_tokens_left_out() -> None:
    explainer = llama()
    played = pair_payoff(explainer, IDS, target=4, contrast=6)
    found = pair_effects(played)

    def value(kept: list[int]) -> float:
        one = explainer.explain([IDS[i] for i in kept], target=4, contrast=6, method="input-x-gradient")
        return one.explained[0].value

    for i, j in combinations(range(4), 2):
        without = [[k for k in range(4) if k not in gone] for gone in ((), (i,), (j,), (i, j))]
        a, b, c, d = (value(kept) for kept in without)
        assert found.deletion[i, j].item() == pytest.approx(a - b - c + d, abs=1e-9)
        nothing = float(played.empty[0])
        joined = value([i, j]) - value([i]) - value([j]) + nothing
        assert found.insertion[i, j].item() == pytest.approx(joined, abs=1e-9)
    closely(found.deletion, found.deletion.T)


def test_directed_effects_are_falls_and_rises_of_another_attribution() -> None:
    explainer = llama()
    found = directed_effects(directed_payoff(explainer, IDS, method="attnlrp", target=4, masker="delete"))
    whole = explainer.explain(IDS, target=4, method="attnlrp").scores.double()
    for j in range(4):
        kept = [k for k in range(4) if k != j]
        left = explainer.explain([IDS[k] for k in kept], target=4, method="attnlrp").scores.double()
        closely(found.deletion[j, kept], whole[kept] - left)
        assert found.deletion[j, j] == found.insertion[j, j] == 0
    for j, i in permutations(range(4), 2):
        both = explainer.explain([IDS[k] for k in sorted((i, j))], target=4, method="attnlrp").scores.double()
        alone = explainer.explain([IDS[i]], target=4, method="attnlrp").scores.double()
        closely(found.insertion[j, i], both[int(j < i)] - alone[0])


def test_of_two_players_the_directed_effects_are_the_interactions() -> None:
    explainer = llama()
    found = directed_effects(directed_payoff(explainer, IDS[:2], method="attnlrp", target=4))
    second = explainer.interactions(IDS[:2], method="attnlrp", target=4, progress=False)
    assert second.options["masker"] == "mean"
    closely(found.deletion, second.between)
    closely(found.insertion, second.between)


def test_with_two_players_directed_effects_are_the_metagame() -> None:
    def payoff(coalitions: Tensor) -> Tensor:
        both = coalitions.all(1, keepdim=True).double()
        return torch.cat([1 + 2 * both, 5 * both], 1) * coalitions

    found = directed_effects(MetaGame(2, payoff, [0, 1]))
    values = exact(MetaGame(2, payoff, [0, 1])).values
    off = ~torch.eye(2, dtype=torch.bool)
    closely(found.deletion[off], values[off])
    closely(found.insertion[off], values[off])
    closely(of_directions(found.insertion), torch.tensor([5.0, 2.0], dtype=torch.float64))


def test_a_metagame_whose_targets_are_no_players_has_no_directed_effects() -> None:
    with pytest.raises(ap.ApportionError, match="each a target"):
        directed_effects(MetaGame(2, lambda rows: rows.double(), [1, 0]))


@pytest.mark.parametrize(
    "scores", [[3.0, 2.0, 1.0, 0.5], [0.5, 1.0, -2.0, 3.0], [1.0, 1.0, -1.0, 2.0], [0.0, 0.0, 0.0, 0.0]]
)
def test_effect_captured_is_its_mean_over_orders(scores: list[float]) -> None:
    sizes = [4.0, 0.5, 1.0, 1.0]
    found = effect_captured(torch.tensor(scores), torch.tensor([4.0, -0.5, 1.0, -1.0]))
    assert found == pytest.approx(captured(scores, sizes), abs=1e-12)


def test_the_oracle_has_one_its_reverse_minus_one_and_a_level_score_nothing() -> None:
    effects = of_pairs(symmetric(6))
    assert effect_captured(effects, effects) == pytest.approx(1)
    assert effect_captured(1 / effects, effects) == pytest.approx(-1)
    assert effect_captured(torch.ones(15), effects) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("effects", [[0.0, 0.0, 0.0], [2.0, -2.0, 2.0], [0.1, 0.1, -0.1], [5.0]])
def test_where_all_effects_are_of_one_size_no_order_is_better(effects: list[float]) -> None:
    assert math.isnan(effect_captured(torch.arange(len(effects)).float(), torch.tensor(effects)))


def test_numbers_that_rank_nothing_are_refused() -> None:
    wrong = torch.tensor([1.0, float("nan")])
    with pytest.raises(ap.ApportionError, match="NaN or infinite"):
        effect_captured(wrong, torch.ones(2))
    with pytest.raises(ap.ApportionError, match="no pair to rank"):
        effect_captured(torch.ones(0), torch.ones(0))
    with pytest.raises(ap.ApportionError, match="rank no pairs"):
        one_score_a_pair(wrong[:, None] * wrong)
    with pytest.raises(ap.ApportionError, match="1 player makes no pair"):
        pair_effects(game(1, len))
    with pytest.raises(ap.ApportionError, match="payoffs are NaN"):
        pair_effects(game(3, lambda s: math.nan if len(s) == 2 else 0.0))


def test_both_directions_make_one_score() -> None:
    values = torch.tensor([[9.0, 2.0], [-3.0, 9.0]])
    closely(one_score_a_pair(values), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    with pytest.raises(ap.ApportionError, match="differ by direction"):
        pair_recall(values, [(0, 1)], 1)


def recalled(scores: Tensor, annotated: set[tuple[int, int]], k: int) -> float:
    """By all orders of the pairs that the scores allow."""
    pairs = list(combinations(range(len(scores)), 2))
    orders = [o for o in permutations(pairs) if all(scores[a] >= scores[b] for a, b in pairwise(o))]
    return sum(len(annotated & set(o[:k])) / len(annotated) for o in orders) / len(orders)


@pytest.mark.parametrize("k", range(1, 7))
def test_recall_is_its_mean_over_the_orders_of_ties(k: int) -> None:
    scores = torch.tensor([[0, 2, 1, 1], [2, 0, 1, 0], [1, 1, 0, 3], [1, 0, 3, 0]], dtype=torch.float64)
    found = pair_recall(scores, [(2, 0), (0, 1), (1, 0)], k)
    assert found == pytest.approx(recalled(scores, {(0, 2), (0, 1)}, k), abs=1e-12)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_a_random_order_recalls_its_exact_expectation(k: int) -> None:
    level = torch.zeros(4, 4)
    for annotated in ([(0, 1)], [(0, 1), (1, 3), (2, 3)]):
        assert pair_recall(level, annotated, k) == pytest.approx(random_recall(4, k), abs=1e-12)


def test_annotations_that_do_not_fit_are_refused() -> None:
    for annotated in ([], [(0, 0)], [(0, 4)]):
        with pytest.raises(ap.ApportionError, match="do not fit"):
            pair_recall(symmetric(4), annotated, 1)
    for k in (0, 7):
        with pytest.raises(ap.ApportionError, match="give 1 to 6"):
            pair_recall(symmetric(4), [(0, 1)], k)


def test_removal_takes_both_members_of_the_best_pair_first() -> None:
    scores = torch.tensor([[0, 1, 0, 0], [1, 0, 5, 0], [0, 5, 0, 3], [0, 0, 3, 0]], dtype=torch.float64)
    found = pair_removal(game(4, lambda s: 1.0 + 10.0 * ({1, 2} <= s) + 2.0 * (3 in s)), scores)
    assert found.removed.tolist() == [0, 2, 3, 4]  # {1, 2}, then 3, then 0
    closely(found.target, torch.tensor([13.0, 3.0, 1.0, 1.0], dtype=torch.float64))
    assert found.area == pytest.approx((16 / 2 * 2 + 4 / 2 + 2 / 2) / 4)


def test_removal_ends_with_nobody_and_ties_follow_the_seed() -> None:
    played, level = game(5, lambda s: sum(2.0**i for i in s)), torch.zeros(5, 5)
    areas = {pair_removal(played, level, seed=seed).area for seed in range(8)}
    assert len(areas) > 1
    first, again = (pair_removal(played, level, seed=3) for _ in range(2))
    closely(first.target, again.target)
    assert [int(first.removed[0]), int(first.removed[-1]), float(first.target[-1])] == [0, 5, 0]
