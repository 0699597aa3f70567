"""The export to shapiq, against shapiq's own exact computer; and with it an independent check of the indices."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import apportion as ap
from apportion.games import CooperativeGame, shapley_interaction, shapley_taylor
from apportion.games.values._coalitions import all_coalitions
from apportion.metagame import MetaGame, exact
from apportion.metagame._restricted import restricted_shapley

N = 5
PAID = torch.randn(2**N, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
FEATURES = tuple(ap.Feature(label=f"x{k}", positions=(k,)) for k in range(N))


def number(coalitions: Tensor) -> Tensor:
    return (coalitions.long() << torch.arange(N)).sum(1)


def interactions(values: Tensor, **changed: Any) -> ap.Interactions:
    given: dict[str, Any] = {
        "values": values,
        "main_effect": values.diagonal().clone(),
        "first_order": values.sum(0),
        "sources": FEATURES,
        "features": FEATURES,
        "source_of": tuple(range(N)),
        "explained": (ap.Explained(label="f", unit="value", value=PAID[-1].item()),),
        "index": "metagame",
        "method": "shapley",
        "evaluations": 2**N,
    }
    return ap.Interactions(**{**given, **changed})


def meta_shapley() -> Tensor:
    first = restricted_shapley(PAID[:, None])[..., 0]
    return exact(MetaGame(N, lambda coalitions: first[number(coalitions)], range(N))).values


def theirs(index: str) -> dict[tuple[int, ...], float]:
    shapiq = pytest.importorskip("shapiq")

    def game(coalitions: Any) -> Any:
        return PAID[number(torch.from_numpy(np.asarray(coalitions)))].numpy()

    found = shapiq.ExactComputer(game, n_players=N)(index, order=2)
    return {key: float(value) for key, value in found.dict_values.items() if key}


def test_meta_shapley_is_shapiqs_shapley_taylor_index() -> None:
    expected = theirs("STII")
    found = interactions(meta_shapley()).to_shapiq()
    assert found.index == "STII"
    assert found.dict_values == pytest.approx(expected, abs=1e-10)
    assert len(found.dict_values) == N + N * (N - 1) // 2
    assert found[(3, 1)] == pytest.approx(expected[(1, 3)], abs=1e-10)
    assert found.baseline_value == pytest.approx(PAID[0].item(), abs=1e-10)
    assert not found.estimated


@pytest.mark.parametrize(("index", "name"), [("shapley-taylor", "STII"), ("shapley-interaction", "k-SII")])
def test_the_indices_are_shapiqs(index: str, name: str) -> None:
    expected = theirs(name)
    game = CooperativeGame(N, lambda coalitions: PAID[number(coalitions)][:, None])
    found = shapley_taylor(game) if index == "shapley-taylor" else shapley_interaction(game)
    values = found.pairs[..., 0] / 2 + found.singles[:, 0].diag()
    exported = interactions(values, index=index).to_shapiq()
    assert exported.index == name
    assert exported.dict_values == pytest.approx(expected, abs=1e-10)


def test_pairs_of_the_plain_interaction_index_are_shapiqs() -> None:
    expected = theirs("SII")
    pairs = shapley_interaction(CooperativeGame(N, lambda coalitions: PAID[number(coalitions)][:, None])).pairs[..., 0]
    for i in range(N):
        for j in range(i + 1, N):
            assert float(pairs[i, j]) == pytest.approx(expected[(i, j)], abs=1e-10)


def test_what_is_exported_sums_to_the_target_and_comes_back() -> None:
    pytest.importorskip("shapiq")
    directed = torch.randn(N, N, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    given = interactions(directed, standard_errors=torch.zeros(N, N, dtype=torch.float64))
    found = given.to_shapiq()
    assert found.estimated
    assert found.estimation_budget == 2**N
    assert sum(found.dict_values.values()) + found.baseline_value == pytest.approx(PAID[-1].item())
    back = torch.tensor([[found[tuple({i, j})] / (1 if i == j else 2) for j in range(N)] for i in range(N)])
    torch.testing.assert_close(back.double(), given.symmetric, rtol=1e-6, atol=1e-6)


def test_a_prompts_interactions_are_exported() -> None:
    pytest.importorskip("shapiq")
    from tests.tiny import build

    found = ap.Explainer(build("llama")).interactions([11, 30, 45], target=4, method="shapley", progress=False)
    exported = found.to_shapiq()
    assert exported.n_players == 3
    assert exported.dict_values[(0, 2)] == pytest.approx(2 * float(found.values[0, 2]))


def test_what_shapiq_cannot_hold_is_refused() -> None:
    values = meta_shapley()
    with pytest.raises(ap.ApportionError, match="5 sources change 5 other features"):
        interactions(values, source_of=(None,) * N).to_shapiq()
    with pytest.raises(ap.ApportionError, match="rank pairs and no shares"):
        interactions(values, index="first-order-pairs").to_shapiq()


def test_without_shapiq_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shapiq", None)
    with pytest.raises(ap.ApportionError, match=r"pip install 'apportion\[interop\]'"):
        interactions(meta_shapley()).to_shapiq()


def test_the_coalitions_are_numbered_as_here() -> None:
    assert number(all_coalitions(N)).tolist() == list(range(2**N))
