"""AttnLRP's recipe for vision transformers as a method: gamma rules in MLPs and at the patches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from apportion.core import ApportionError
from apportion.methods._method import Shares
from apportion.methods._registry import backward_method
from apportion.methods.backward._propagation import Propagation
from apportion.relevance import ATTNLRP, Composite, attnlrp_vision
from apportion.relevance import NAME as VISUAL_TOKENS
from apportion.task import AttributionTask


@backward_method(
    "attnlrp-vision", conserves="exactly", cost="1 forward, 1 backward", source="Achtibat et al. 2024, arXiv 2402.05602"
)
@dataclass(frozen=True, kw_only=True)
class AttnLRPVision(Propagation):
    """AttnLRP with the γ-rule in a vision transformer's MLPs and its patch convolution, and ε elsewhere.

    These modules are found by the model's structure; see `apportion.relevance.attnlrp_vision`. To choose the modules
    yourself: `ap.ATTNLRP.within(composite, modules="*.mlp*")`.

    Args:
        mlp: γ of the MLPs' linear layers.
        patches: γ of the convolution that makes patches.

    Raises:
        ApportionError: An option is negative; the model has no convolution of images, or no MLP in a numbered layer;
            or relevance ends at visual tokens.

    Source:
        Achtibat et al. 2024, arXiv 2402.05602, for ViT-B/16.
    """

    composite: Composite = field(default=replace(ATTNLRP, name="attnlrp-vision"), init=False, repr=False)
    mlp: float = 0.05
    patches: float = 0.25

    def __post_init__(self) -> None:
        for name, gamma in (("mlp", self.mlp), ("patches", self.patches)):
            if not 0 <= gamma < float("inf"):
                raise ApportionError(f"{name}={gamma!r} is no γ; give 0 or more, such as 0.25.")

    @property
    def options(self) -> Mapping[str, Any]:
        """Both γ."""
        return {"mlp": self.mlp, "patches": self.patches}

    @property
    def detail(self) -> bool:
        """Rules differ from module to module."""
        return True

    def attribute(self, task: AttributionTask) -> Shares:
        """Propagate relevance to the features of the task's images, and to its tokens."""
        if VISUAL_TOKENS in (continuous.name for continuous in task.prompts[0].continuous_inputs):
            raise ApportionError(
                "attnlrp-vision has rules for the vision tower, and regions='visual-tokens' ends before it; use "
                "attnlrp, or regions='patches'."
            )
        return super().attribute(task)

    def rules(self, model: nn.Module) -> Composite:
        """AttnLRP with γ where this model has its MLPs and its patch convolution."""
        return attnlrp_vision(model, mlp=self.mlp, patches=self.patches)
