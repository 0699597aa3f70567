"""A request: what is asked about a prompt, whichever prompt it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apportion.core import AnyFeatures, check_features
from apportion.engine._choices import Positions, check_positions
from apportion.engine._engine import Engine
from apportion.methods import AnyMethod, as_method
from apportion.models.inputs import AnyRegions, Prompt
from apportion.results import Attribution
from apportion.targets import AnyTarget, Contrast, TargetsLike, Unit, as_targets


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of `Explainer.explain` but the prompt; see there.

    Raises:
        ApportionError: Something does not fit, whatever the prompt.
    """

    target: TargetsLike = None
    contrast: Contrast = None
    method: AnyMethod | None = None
    unit: Unit = "logit"
    position: int | str | None = None
    features: AnyFeatures = "tokens"
    regions: AnyRegions = "patches"
    positions: Positions = "apart"

    def __post_init__(self) -> None:
        check_features(self.features)
        check_positions(self.positions)
        as_targets(self.target, self.contrast, self.unit, self.position)
        if self.method is not None:
            as_method(self.method)

    def targets(self, engine: Engine, prompt: Any) -> list[AnyTarget]:
        """What is divided for a prompt as the user gave it."""
        return engine.targets(prompt, self.target, self.contrast, self.unit, self.position)

    def answered(
        self, engine: Engine, prompts: list[Prompt], targets: list[AnyTarget], *, progress: bool = False
    ) -> list[Attribution]:
        """The attributions of prompts that run together."""
        method = engine.method(self.method, prompts[0])
        found, _ = engine.attributions(prompts, {method.name: method}, targets, progress=progress)
        return [self._shown(of_prompt[method.name]) for of_prompt in found]

    def _shown(self, attribution: Attribution) -> Attribution:
        if self.positions == "added":
            attribution = attribution.with_positions()
        return attribution.grouped(self.features)
