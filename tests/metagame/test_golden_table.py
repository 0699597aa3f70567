"""The golden table: what four methods make of f = x₁ + x₁x₂², through the explainer and by hand."""

from __future__ import annotations

import inspect
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import apportion as ap
from apportion.metagame import MetaGame, exact
from apportion.metagame.indices._integrated_hessians import log_nodes
from apportion.targets._computed import Computed
from tests.asking import with_game

exactly = partial(assert_close, rtol=0, atol=1e-12)
#: What I = x₁x₂² is multiplied by, next to x₁ itself in the first place: φ₁→₁, φ₂→₂, φ₂→₁, φ₁→₂.
TABLE = {
    "input-x-gradient": (0, 0, 1, 2),
    "integrated-gradients": (0, 0, 1 / 3, 2 / 3),
    "shapley(masker='zero')": (0, 0, 1 / 2, 1 / 2),
    "integrated-hessians": (1 / 9, 4 / 9, 2 / 9, 2 / 9),
}
POINTS = [(0.5, 1.5), (-0.25, 2.0), (1.0, -1.0), (1.0, 0.0), (0.0, 0.75)]


class Function(nn.Module):
    """f = x₁ + x₁x₂² of two tokens whose embeddings are numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, inputs_embeds: Tensor) -> Any:
        first, second = inputs_embeds[..., 0].unbind(1)
        return SimpleNamespace(value=self.one * first + first * second * second)


class Value(Computed):
    """The function's value."""

    def values(self, output: Any, prompts: Any) -> Tensor:
        found: Tensor = output.value
        return found


def asked(x: tuple[float, float], method: str) -> ap.Interactions:
    given = {"inputs_embeds": torch.tensor(x, dtype=torch.float64).reshape(1, 2, 1)}
    options = {"index": method} if method == "integrated-hessians" else {"method": method, "masker": "zero"}
    found = ap.Explainer(Function()).interactions(given, target=Value(), progress=False, **with_game(**options))
    assert isinstance(found, ap.Interactions)
    return found


@pytest.mark.parametrize("x", POINTS)
@pytest.mark.parametrize("method", TABLE)
def test_the_explainer_gives_the_golden_table(method: str, x: tuple[float, float]) -> None:
    found = asked(x, method)
    own, other, to_first, to_second = TABLE[method]
    together = x[0] * x[1] ** 2
    values = [[x[0] + own * together, to_second * together], [to_first * together, other * together]]
    exactly(found.values, torch.tensor(values, dtype=torch.float64))
    exactly(found.gap, torch.zeros(2, dtype=torch.float64))
    assert found.index == ("integrated-hessians" if method == "integrated-hessians" else "metagame")


def by_hand(method: str, x: tuple[float, float]) -> tuple[float, float]:
    """First-order attributions of f from their definitions, for a point where absent features are 0."""
    first, second = x
    return {
        "input-x-gradient": (first + first * second**2, 2 * first * second**2),
        "integrated-gradients": (first + first * second**2 / 3, 2 * first * second**2 / 3),
        "shapley(masker='zero')": (first + first * second**2 / 2, first * second**2 / 2),
    }[method]


@pytest.mark.parametrize("method", [name for name in TABLE if name != "integrated-hessians"])
def test_the_engine_gives_the_golden_table_of_formulas(method: str) -> None:
    x = POINTS[0]

    def payoff(coalitions: Tensor) -> Tensor:
        rows = [by_hand(method, (x[0] * bool(row[0]), x[1] * bool(row[1]))) for row in coalitions]
        return torch.tensor(rows, dtype=torch.float64)

    found = exact(MetaGame(2, payoff, range(2)))
    exactly(found.values, asked(x, method).values)


def test_only_unbalanced_methods_tell_a_direction() -> None:
    x = (0.5, 1.5)
    sizes = {method: float(asked(x, method).antisymmetric.abs().max()) for method in TABLE}
    assert sizes["input-x-gradient"] > 0.5
    assert sizes["integrated-gradients"] > 0.15
    assert sizes["shapley(masker='zero')"] == 0
    assert sizes["integrated-hessians"] < 1e-14


@pytest.mark.parametrize("steps", [1, 2, 5, 32])
def test_the_quadrature_is_exact_for_polynomials_under_the_density_of_a_product(steps: int) -> None:
    points, weights = log_nodes(steps)
    assert bool(((points > 0) & (points < 1) & (weights > 0)).all())
    for power in range(2 * steps):
        assert_close(float(weights @ points**power), 1 / (power + 1) ** 2, rtol=1e-12, atol=0)


def test_one_integral_is_the_double_one() -> None:
    points, weights = log_nodes(12)
    single = float(weights @ torch.exp(-2 * points))
    grid = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    assert_close(single, float(torch.exp(-2 * grid[:, None] * grid).mean()), rtol=1e-6, atol=0)


def test_the_index_is_an_option_of_the_front_door() -> None:
    parameters = inspect.signature(ap.Explainer.interactions).parameters
    assert parameters["index"].default == "metagame"
