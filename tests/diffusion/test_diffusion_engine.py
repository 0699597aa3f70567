"""The engine on diffusers' transformers: all of an output's relevance is accounted for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

pytest.importorskip("diffusers")

from apportion.relevance import CP_LRP, GRADIENT, record
from tests.diffusion.tiny_diffusion import BUILDERS, tiny
from tests.wide.sweep import lost


def _output(given: object) -> Tensor:
    return given[0] if isinstance(given, tuple) else given.sample


@pytest.mark.parametrize("name", BUILDERS)
def test_inputs_biases_and_constants_hold_all_of_the_relevance(name: str) -> None:
    model, inputs = tiny(name)
    trace = record(model, inputs)
    output = _output(trace.output)
    seed = torch.randn(1, *output.shape, dtype=output.dtype)
    passed = trace.propagate(output, seed, CP_LRP)
    assert lost(passed.ledger[0]) < 1e-6
    assert passed.relevance["hidden_states"].abs().sum() > 0


def test_the_time_steps_share_is_what_its_sines_and_cosines_contribute() -> None:
    model, inputs = tiny("sd3")
    trace = record(model, inputs)
    seed = torch.randn(1, *_output(trace.output).shape, dtype=torch.float64)
    found = trace.propagate(_output(trace.output), seed, GRADIENT, ledger=False).relevance

    waves: list[Tensor] = []

    def cut(module: nn.Module, arguments: object, output: Tensor) -> Tensor:
        waves.append(output.detach().requires_grad_())
        return waves[0]

    handle = model.time_text_embed.time_proj.register_forward_hook(cut)
    (gradient,) = torch.autograd.grad((_output(model(**inputs)) * seed[0]).sum(), waves)
    handle.remove()
    assert_close(found["time_text_embed.time_proj"][0], gradient * waves[0].detach(), atol=1e-6, rtol=1e-5)
    assert not found["timestep"].any()


class _AddsACode(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4).double()
        self.register_buffer("code", torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear(self.code)


def test_a_map_of_a_constant_is_a_constant_beside_its_bias() -> None:
    model = _AddsACode()
    trace = record(model, {"x": torch.randn(1, 4, dtype=torch.float64)})
    lines = trace.propagate(trace.output, torch.ones(1, 1, 4, dtype=torch.float64), CP_LRP).ledger[0].lines
    assert_close(lines["constants"], (model.code @ model.linear.weight.T).detach().sum())
    assert_close(lines["biases"], model.linear.bias.detach().sum())
