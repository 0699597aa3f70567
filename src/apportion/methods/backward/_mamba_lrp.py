"""MambaLRP: AttnLRP with the parameters of selective scans held constant."""

from __future__ import annotations

from apportion.core import ApportionError, RuleNotApplied
from apportion.methods._method import Shares
from apportion.methods._registry import register
from apportion.methods.backward._propagation import Propagation
from apportion.relevance import MAMBA_LRP
from apportion.task import AttributionTask


@register(
    "mamba-lrp",
    family="backward",
    conserves="exactly",
    cost="1 forward, 1 backward",
    source="Rezaei Jafari et al. 2024, arXiv 2406.07592",
)
class MambaLRP(Propagation):
    """AttnLRP for Mamba: the scan's Δ, B and C are held constant, so that all it computes is passed on to its input.

    AttnLRP itself holds Δ constant (a gate), but shares the products of B and C by halves, and so sends part of the
    relevance to the projection that they come from. The other rules are the same: frozen norms, the identity rule for
    SiLU, half to each side of the gate.

    Raises:
        ApportionError: The model has no selective scan whose Δ, B and C come from one projection `x_proj` of their own
            (Mamba, Falcon-Mamba, Jamba). Mamba-2 takes them from the projection of the input, which cannot be held.

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
                "has no parameters to hold constant; attnlrp or input-x-gradient serve any model."
            ) from error
