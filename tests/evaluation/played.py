"""Cases whose game is made by hand, and attributions with shares of one's choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from functools import cache

import torch

from apportion import Attribution, Explainer
from apportion.evaluation import Case, Item, Measure, Random
from apportion.games import CooperativeGame
from tests.tiny import WORDS, tiny, tokenizer

KINDS = {"bert": "masked", "bert_classifier": "masked", "t5": "seq2seq", "bart": "seq2seq"}


@cache
def explainer(name: str = "llama") -> Explainer:
    return Explainer(tiny(name), tokenizer(KINDS.get(name, "causal")))


@cache
def _case(players: int) -> Case:
    case = Case(explainer(), Item(id="played", prompt=" ".join((WORDS * 2)[:players]), target=9))
    assert len(case.players.groups) == players
    return case


def played(players: int, value: Callable[[frozenset[int]], float], *, seed: int = 0, outputs: int = 2) -> Case:
    """A case with so many tokens whose coalitions are worth what a function says; as a probability, half of it."""
    case = copy(_case(players))
    case.seed, case._games = seed, {}

    def payoff(coalitions):
        worth = [float(value(frozenset(row.nonzero().flatten().tolist()))) for row in coalitions]
        return torch.tensor([[w, w / 2][:outputs] for w in worth], dtype=torch.float64)

    case._games[case.players.groups] = CooperativeGame(players, payoff)
    return case


def shared(case: Case, scores: Sequence[float]) -> Attribution:
    """An attribution of a case with these shares for the tokens that can be absent."""
    attribution = case.attribution(Random())
    every = torch.zeros_like(attribution.scores)
    every[list(case.players.columns)] = torch.tensor(scores, dtype=every.dtype)
    return replace(attribution, scores=every)


def measured(measure: Measure, case: Case, scores: Sequence[float]):
    """What a measure finds for shares of one's choice."""
    return measure.of(case, shared(case, scores), Random())


def additive(weights: Sequence[float], start: float = 0.0) -> Callable[[frozenset[int]], float]:
    """Every player adds its weight, whoever else is there."""
    return lambda present: start + sum(weights[player] for player in present)


def interacting(players: int, seed: int = 0) -> Callable[[frozenset[int]], float]:
    """Players that add something, and pairs that add something of their own."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(players, players, generator=generator, dtype=torch.float64).tolist()
    return lambda present: 0.0 + sum(weights[i][j] for i in present for j in present if i <= j)
