"""MambaLRP: AttnLRP with the parameters of selective scans held constant."""

from __future__ import annotations

from apportion.core import ApportionError, RuleNotApplied
from apportion.methods._method import Shares
from apportion.methods._registry import backward_method
from apportion.methods.backward._propagation import Propagation
from apportion.relevance import MAMBA_LRP
from apportion.task import AttributionTask


@backward_method(
    "mamba-lrp", conserves="exactly", cost="1 forward, 1 backward", source="Rezaei Jafari et al. 2024, arXiv 2406.07592"
)
class MambaLRP(Propagation):
    """AttnLRP for Mamba: the scan's Δ, B and C are held constant, so that all relevance passes to the scan's input.

    Plain AttnLRP holds Δ constant (a gate), but divides the products of B and C in halves, and so sends part of the
    relevance to the projection that computes them. The other rules are the same: frozen norms, the identity rule for
    SiLU, half to each side of the gate.

    Raises:
        ApportionError: The model has no selective scan whose Δ, B and C come from a separate projection `x_proj`
            (Mamba, Falcon-Mamba, Jamba). Mamba-2 computes them by the input projection, which cannot be held constant.

    Source:
        Rezaei Jafari et al. 2024, arXiv 2406.07592.
    """

    def __init__(self) -> None:
        super().__init__(MAMBA_LRP)

    def attribute(self, task: AttributionTask) -> Shares:
        """Propagate relevance to the embeddings of the task's tokens."""
        try:
            return super().attribute(task)
        except RuleNotApplied as error:
            raise ApportionError(
                f"{type(task.head.model).__name__} has no selective scan with a projection x_proj, so mamba-lrp "
                "has no parameters to hold constant; attnlrp or input-x-gradient fit any model."
            ) from error
