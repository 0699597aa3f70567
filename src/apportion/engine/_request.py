"""A request: what to explain and how, for any prompt."""

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


@dataclass(frozen=True)
class Request:
    """The arguments of `Explainer.explain` except the prompt, checked as far as possible without one."""

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
        """The targets to divide for a prompt as the user gave it."""
        return engine.targets(prompt, self.target, self.contrast, self.unit, self.position)

    def answered(
        self, engine: Engine, prompts: list[Prompt], targets: list[AnyTarget], *, progress: bool = False
    ) -> list[Attribution]:
        """The attributions of prompts that run together."""
        method = engine.method(self.method, prompts[0])
        found, _ = engine.attributions(prompts, {method.name: method}, targets, progress=progress)
        attributions = [of_prompt[method.name] for of_prompt in found]
        if self.positions == "added":
            attributions = [attribution.with_positions() for attribution in attributions]
        return [attribution.grouped(self.features) for attribution in attributions]
