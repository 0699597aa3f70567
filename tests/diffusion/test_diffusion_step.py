"""One step divided among prompt, patches and the rest, against plain derivatives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

pytest.importorskip("diffusers")

from apportion import ATTNLRP, CP_LRP, GRADIENT, ApportionError, Composite, Explainer, Ledger, Propagation
from apportion.diffusion import Region, Step, modulation_held
from tests.diffusion.tiny_diffusion import PROMPT, tiny

NAMES = ("dit", "sd3", "sd35", "flux", "guided_flux", "pixart")


@dataclass(frozen=True)
class Divided:
    """An attribution of one step, by what its features are."""

    value: float
    prompt_tokens: Tensor
    patches: Tensor
    others: dict[str, Tensor]
    ledger: Ledger


def step_relevance(
    model: nn.Module,
    inputs: dict[str, Any],
    *,
    region: Tensor | None = None,
    direction: Tensor | None = None,
    composite: Composite = ATTNLRP,
    modulation: str = "constant",
) -> Divided:
    rules = modulation_held(composite, model) if modulation == "constant" else composite
    found = Explainer(model).explain(Step(inputs), target=Region(region, direction), method=Propagation(rules))
    of = {part: [k for k, f in enumerate(found.features) if f.part == part] for part in ("image", "text")}
    count, (rows, columns) = len(of["image"]), (3 if len(of["image"]) == 12 else 4, 4)
    assert [f.label for f in found.features[:count]] == [f"patch {r},{c}" for r in range(rows) for c in range(columns)]
    assert found.ledger is not None
    return Divided(
        value=found.target.value,
        prompt_tokens=found.scores[of["text"]],
        patches=found.scores[of["image"]].reshape(rows, columns),
        others={f.label: s for f, s in zip(found.features, found.scores, strict=True) if f.kind == "input"},
        ledger=found.ledger,
    )


def _region(name: str) -> Tensor:
    region = torch.zeros(3 if "flux" in name else 4, 4, dtype=torch.bool)
    region[1:3, 1:3] = True
    return region


def _in_output(name: str) -> Tensor:
    """The same region in the output's own shape."""
    if "flux" in name:
        return _region(name).flatten()[:, None].double()
    return _region(name).repeat_interleave(2, 0).repeat_interleave(2, 1).double()


def _output(model: nn.Module, inputs: dict[str, Any]) -> Tensor:
    found = model(**inputs)
    return found.sample if hasattr(found, "sample") else found[0]


@contextmanager
def _modulation_detached(model: nn.Module) -> Iterator[None]:
    handles = [
        module.register_forward_hook(lambda module, arguments, output: output.detach())
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and "norm" in path
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _by_patch(relevance: Tensor) -> Tensor:
    if relevance.ndim == 2:
        return relevance.sum(1).reshape(3, 4)
    patches = torch.zeros(4, 4, dtype=relevance.dtype)
    for row in range(8):
        for column in range(8):
            patches[row // 2, column // 2] += relevance[:, row, column].sum()
    return patches


@pytest.mark.parametrize("modulation", ["constant", "product"])
@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_without_rules_relevance_is_input_times_derivative(name: str, modulation: Any) -> None:
    model, inputs = tiny(name)
    direction = torch.randn_like(_output(model, inputs))
    found = step_relevance(
        model, inputs, region=_region(name), direction=direction, composite=GRADIENT, modulation=modulation
    )
    given = {key: inputs[key].clone().requires_grad_() for key in ("hidden_states", "encoder_hidden_states")}
    if modulation == "constant":
        with _modulation_detached(model):
            output = _output(model, {**inputs, **given})
    else:
        output = _output(model, {**inputs, **given})
    value = (output * direction * _in_output(name)).sum()
    of_picture, of_prompt = torch.autograd.grad(value, list(given.values()))
    assert found.value == pytest.approx(value.item())
    assert_close(found.prompt_tokens, (of_prompt * inputs["encoder_hidden_states"])[0].sum(-1))
    assert_close(found.patches, _by_patch((of_picture * inputs["hidden_states"])[0]))


@pytest.mark.parametrize("modulation", ["constant", "product"])
@pytest.mark.parametrize("name", NAMES)
def test_the_books_balance_and_their_lines_are_the_parts(name: str, modulation: Any) -> None:
    model, inputs = tiny(name)
    found = step_relevance(model, inputs, region=_region(name), composite=CP_LRP, modulation=modulation)
    lines = found.ledger.lines
    assert found.ledger.relative_residual < 1e-6
    assert_close(lines["image"], found.patches.sum(), check_dtype=False)
    assert len(found.prompt_tokens) == (0 if name == "dit" else PROMPT)
    if name != "dit":
        assert_close(lines["tokens"], found.prompt_tokens.sum(), check_dtype=False)
    for other, amount in found.others.items():
        assert_close(lines[other], amount, check_dtype=False)
    expected = "guidance" if name == "guided_flux" else "time step"
    assert (found.others[expected] != 0) == (modulation == "product")
    assert ("held constant" in lines) == (modulation == "constant")


@pytest.mark.parametrize("name", NAMES)
def test_the_value_is_by_default_the_norm_of_the_output_in_the_region(name: str) -> None:
    model, inputs = tiny(name)
    output = _output(model, inputs).detach()
    output = output[:, : inputs["hidden_states"].shape[1]] if output.ndim == 4 else output  # without variances
    found = step_relevance(model, inputs, region=_region(name), composite=CP_LRP)
    assert found.value == pytest.approx((output * _in_output(name)).norm().item())
    assert found.ledger.total.item() == pytest.approx(found.value)


def test_a_region_of_patches_is_the_same_as_of_their_pixels() -> None:
    model, inputs = tiny("sd3")
    by_patch = step_relevance(model, inputs, region=_region("sd3"))
    by_pixel = step_relevance(model, inputs, region=_in_output("sd3"))
    assert_close(by_pixel.patches, by_patch.patches)
    whole = step_relevance(model, inputs, region=torch.ones(4, 4))
    assert_close(step_relevance(model, inputs).prompt_tokens, whole.prompt_tokens)


def test_regions_add_up_along_one_direction() -> None:
    model, inputs = tiny("flux")
    direction = torch.randn_like(_output(model, inputs))
    region = _region("flux")
    inside, outside, whole = (
        step_relevance(model, inputs, region=part, direction=direction)
        for part in (region, ~region, torch.ones_like(region))
    )
    assert_close(inside.prompt_tokens + outside.prompt_tokens, whole.prompt_tokens)
    assert_close(inside.patches + outside.patches, whole.patches)


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    model, inputs = tiny("sd3")
    with pytest.raises(ApportionError, match=r"the region is \(3, 3\).*\(4, 4\) or \(8, 8\)"):
        step_relevance(model, inputs, region=torch.ones(3, 3))
    with pytest.raises(ApportionError, match="region is empty"):
        step_relevance(model, inputs, region=torch.zeros(4, 4))
    with pytest.raises(ApportionError, match="give its shape"):
        step_relevance(model, inputs, direction=torch.ones(4, 8, 8, dtype=torch.float64))
    with pytest.raises(ApportionError, match="one picture at a time"):
        step_relevance(model, {key: torch.cat([value] * 2) for key, value in inputs.items()})
    with pytest.raises(ApportionError, match="known to compute its modulation"):
        step_relevance(_Plain(), {"hidden_states": torch.randn(1, 2, 4, 4)})
    with pytest.raises(ApportionError, match="2 words were given for"):
        Explainer(model).explain(Step(inputs, words=["a", "cat"]), target=Region())
    nn.init.zeros_(model.proj_out.weight)
    nn.init.zeros_(model.proj_out.bias)
    with pytest.raises(ApportionError, match="no direction of its own"):
        step_relevance(model, inputs)


class _Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Conv2d(2, 2, 1)

    def forward(self, hidden_states: Tensor) -> tuple[Tensor]:
        return (self.out(hidden_states),)


def test_words_are_those_that_were_given_and_methods_are_those_of_every_model() -> None:
    model, inputs = tiny("sd3")
    words = [f"word{k}" for k in range(PROMPT)]
    explainer, step, target = Explainer(model), Step(inputs, words=words), Region(_region("sd3"))
    found = explainer.explain(step, target=target)
    assert [f.label for f in found.features if f.kind == "token"] == words
    assert found.method == "attnlrp"
    left_out = explainer.explain(step, target=target, method="leave-one-out(masker='zero')")
    first = [f.kind for f in found.features].index("token")
    without = inputs["encoder_hidden_states"].clone()
    without[:, 2] = 0
    part = _in_output("sd3")
    with torch.no_grad():
        norms = [
            (_output(model, {**inputs, "encoder_hidden_states": e}) * part).norm()
            for e in (inputs["encoder_hidden_states"], without)
        ]
    assert left_out.scores[first + 2].item() == pytest.approx((norms[0] - norms[1]).item(), abs=1e-9)
