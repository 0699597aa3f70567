"""A metagame that is kept in a file goes on where it was interrupted, and never with another task's numbers."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

import apportion as ap
from apportion.games import CoalitionCache, CooperativeGame, _game
from apportion.games.values._coalitions import all_coalitions
from tests.asking import with_game

PROMPT = torch.tensor([5, 9, 3, 7, 5, 1])


@cache
def explainer(seed: int = 0) -> ap.Explainer:
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.5,
    )
    return ap.Explainer(transformers.LlamaForCausalLM(config).double().eval())


def asked(path: Path | None, *, seed: int = 0, prompt: Tensor = PROMPT, **changed: Any) -> ap.Interactions:
    options: dict[str, Any] = {"target": 3, "estimator": "exact", "progress": False, "path": path, "masker": "delete"}
    return explainer(seed).interactions(prompt, **with_game(**{**options, **changed}))


def payoff(coalitions: Tensor) -> Tensor:
    return coalitions.double().cumsum(1) ** 2


def test_a_call_again_evaluates_nothing_and_gives_the_same(tmp_path: Path):
    path = tmp_path / "game.safetensors"
    first, again = asked(path), asked(path)
    assert first.cost is not None
    assert again.cost is not None
    assert first.cost.backward == 63
    assert again.cost.backward == 0
    assert torch.equal(first.values, again.values)
    assert torch.equal(first.values, asked(None).values)


def test_a_larger_budget_evaluates_only_what_is_new(tmp_path: Path):
    path = tmp_path / "game.safetensors"
    few = asked(path, estimator="regression", budget=30)
    more = asked(path, estimator="regression", budget=45)
    fresh = asked(None, estimator="regression", budget=45)
    assert few.cost is not None
    assert more.cost is not None
    assert few.evaluations + more.cost.backward == more.evaluations == 45
    torch.testing.assert_close(more.values, fresh.values)


def test_what_was_evaluated_before_an_interruption_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_game, "KEPT_AT_ONCE", 8)
    path, asked_for = tmp_path / "game.safetensors", 0

    def breaking(coalitions: Tensor) -> Tensor:
        nonlocal asked_for
        asked_for += len(coalitions)
        if asked_for > 30:
            raise KeyboardInterrupt
        return payoff(coalitions)

    with pytest.raises(KeyboardInterrupt):
        CooperativeGame(6, breaking, cache=CoalitionCache(path, "q")).values(all_coalitions(6))
    assert len(load_file(path)["coalitions"]) == 24  # 8 and then 16; the next would have been 32
    rest = 0

    def counted(coalitions: Tensor) -> Tensor:
        nonlocal rest
        rest += len(coalitions)
        return payoff(coalitions)

    game = CooperativeGame(6, counted, cache=CoalitionCache(path, "q"))
    assert torch.equal(game.values(all_coalitions(6)), payoff(all_coalitions(6)))
    assert rest == 40
    assert game.evaluations == 64
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"prompt": torch.tensor([5, 9, 3, 7, 5, 2])},
        {"target": 4},
        {"contrast": 4},
        {"unit": "probability"},
        {"method": "input-x-gradient"},
        {"method": "integrated-gradients(steps=3)"},
        {"masker": "zero"},
        {"players": {"first": [0], "others": [1, 2]}},
        {"of": {"first": [0]}},
        {"target": lambda output: output.logits[:, -1, 3]},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_question_is_refused(tmp_path: Path, changed: dict[str, Any]):
    path = tmp_path / "game.safetensors"
    asked(path)
    kept = path.read_bytes()
    with pytest.raises(ap.ApportionError, match="holds the game of another task") as refusal:
        asked(path, **changed)
    assert "\n" not in str(refusal.value)
    assert path.read_bytes() == kept


def test_functions_of_one_name_are_told_apart(tmp_path: Path):
    path = tmp_path / "game.safetensors"
    asked(path, target=lambda output: output.logits[:, -1, 3])
    with pytest.raises(ap.ApportionError, match="another task"):
        asked(path, target=lambda output: output.logits[:, -1, 4])


def test_an_estimator_or_seed_may_change(tmp_path: Path):
    path = tmp_path / "game.safetensors"
    asked(path)
    found = asked(path, estimator="permutations", budget=40, seed=0)
    assert found.cost is not None
    assert found.cost.backward == 0


def test_a_file_of_another_kind_is_refused_and_left_alone(tmp_path: Path):
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(ap.ApportionError, match="is not a game's file"):
        asked(path)
    assert path.read_text() == "mine"
    with pytest.raises(ap.ApportionError, match="there is no folder"):
        asked(tmp_path / "nowhere" / "game")


def test_only_a_metagame_is_kept(tmp_path: Path):
    with pytest.raises(ap.ApportionError, match="path keeps the payoffs of a metagame"):
        asked(tmp_path / "game", index="shapley-taylor")
