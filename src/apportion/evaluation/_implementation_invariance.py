"""Implementation invariance: two models that compute the same function should have the same explanation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from apportion.core import ApportionError, pandas_module
from apportion.engine import COMPARED, AnyMethods, Engine, compared
from apportion.results import Attribution
from apportion.targets import Contrast, TargetsLike, Unit, as_targets
from apportion.task import AttributionTask

if TYPE_CHECKING:
    import pandas

#: How far the targets' values may lie apart, as a part of the largest output, and still be the same: rounding.
TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    r"""How far two attributions of the same function lie apart.

    Args:
        relative: $2\sum_i |a_i - b_i| / \sum_i (|a_i| + |b_i|)$: 0 where they agree, 2 where nothing is shared.
        largest: $\max_i |a_i - b_i|$ as a part of the largest share of either: up to 2.
    """

    relative: float
    largest: float

    @classmethod
    def between(cls, a: Tensor, b: Tensor) -> Disagreement:
        """Of shares of the same features; 0 where all of them are 0."""
        a, b = a.double().cpu(), b.double().cpu()
        apart, sizes = (a - b).abs(), a.abs() + b.abs()
        if not bool(sizes.any()):
            return cls(relative=0.0, largest=0.0)
        most = torch.maximum(a.abs().max(), b.abs().max())
        return cls(relative=float(2 * apart.sum() / sizes.sum()), largest=float(apart.max() / most))


@dataclass(frozen=True, kw_only=True)
class ImplementationInvariance:
    """Which methods depend on how a function is written.

    Args:
        disagreements: By method.
        attributions: By method, of the one and of the other model.
        values: The target's value in each.
        refused: Methods that cannot serve one of the models, with the reason.
    """

    disagreements: Mapping[str, Disagreement]
    attributions: Mapping[str, tuple[Attribution, Attribution]]
    values: tuple[float, float]
    refused: Mapping[str, str] = field(default_factory=dict)

    def to_frame(self) -> pandas.DataFrame:
        """A pandas table with a row per method: method, relative, largest."""
        rows = [{"method": method, **vars(found)} for method, found in self.disagreements.items()]
        return pandas_module().DataFrame(rows, columns=["method", "relative", "largest"])


def implementation_invariance(
    one: Engine | nn.Module,
    other: Engine | nn.Module,
    prompt: Any,
    *,
    methods: AnyMethods = COMPARED,
    target: TargetsLike = None,
    contrast: Contrast = None,
    unit: Unit = "logit",
    position: int | str | None = None,
) -> ImplementationInvariance:
    """Compare the attributions of two models that compute the same function in different ways.

    Args:
        one: An explainer, or a model whose prompts are token ids.
        other: The same function, written in another way; of the same tokens.
        prompt: As `Explainer.explain` takes it; one.
        methods: As `Explainer.compare` takes them.
        target: As there, one; where none is named, what `one` finds likeliest. So are `contrast`, `unit`, `position`.
        contrast: See there.
        unit: See there.
        position: See there.

    Raises:
        ApportionError: The models give the target different values, or read the prompt as different tokens.

    Source:
        Sundararajan et al. 2017, arXiv 1703.01365, for the axiom; You et al. 2025, arXiv 2510.18810, on LRP.
    """
    engines = [model if isinstance(model, Engine) else Engine(model) for model in (one, other)]
    asked = as_targets(target, contrast, unit, position)
    if len(asked) != 1:
        raise ApportionError(f"one target at a time can be compared; {len(asked)} were given.")
    first = engines[0].prepare(prompt, asked, ())
    (resolved,) = first.resolved[0]
    tasks = first, engines[1].prepare(prompt, [resolved], ())
    values = _same_values(*tasks)
    found = [compared(engine, prompt, [resolved], methods=methods) for engine in engines]
    refused = {name: str(error) for comparison in reversed(found) for name, error in comparison.refused.items()}
    pairs = {name: (found[0][name], found[1][name]) for name in found[0] if name in found[1]}
    return ImplementationInvariance(
        disagreements={name: Disagreement.between(a.scores, b.scores) for name, (a, b) in pairs.items()},
        attributions=pairs,
        values=values,
        refused=refused,
    )


def _same_values(one: AttributionTask, other: AttributionTask) -> tuple[float, float]:
    """The target's value in two models, once it is known to be the same."""
    tokens = [[feature.label for feature in task.prompts[0].features] for task in (one, other)]
    if len(tokens[0]) != len(tokens[1]):
        raise ApportionError(
            f"the prompt is {len(tokens[0])} tokens to the one model and {len(tokens[1])} to the other; "
            "give both the same tokenizer."
        )
    a, b = (task.target_values.values[0][0] for task in (one, other))
    outputs = [output for task in (one, other) for output in task.target_values.outputs]
    size = max(float(output.detach().abs().max()) for output in outputs)
    tolerance = max(TOLERANCE, 8 * max(torch.finfo(output.dtype).eps for output in outputs))
    if not abs(a - b) <= tolerance * size:
        raise ApportionError(
            f"the two models do not compute the same: the target is {a:.6g} in the one and {b:.6g} in the other, which "
            f"differ by {abs(a - b):.2g}; compare models with equal outputs."
        )
    return a, b
