"""ResLRP: AttnLRP with the gamma rule where branches join the residual stream."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from apportion.methods._registry import backward_method
from apportion.methods.backward._propagation import Propagation
from apportion.relevance import RES_LRP, Override


@backward_method("res-lrp", conserves="exactly", cost="1 forward, 1 backward", source="Berend, Achtibat et al. 2026")
class ResLRP(Propagation):
    r"""AttnLRP, but residual sums favour the summand that has the sum's sign.

    For y = a + b, element by element, $R_a = w(a) a / (w(a) a + w(b) b) R_y$ with $w(z) = 1 + \gamma [z y > 0]$: two
    large summands that cancel no longer get shares much larger than their sum. Exactly conservative. Autograd does not
    keep the summands, so the forward pass does; only those that a model overwrites later are read from a second pass.

    A residual sum adds a branch to the value that the branch was computed from; see `docs/rules.md`. `attention`,
    `product` and `gate` are as in `AttnLRP`.

    Args:
        gamma: 0 is AttnLRP; the paper's value is 1.
        modules: Pattern of the paths of modules it applies to, such as `"*vision_tower*"` in a model of images and
            text.

    Source:
        Berend, Achtibat et al. 2026.
    """

    def __init__(
        self,
        *,
        gamma: float = 1.0,
        modules: str = "*",
        attention: Literal["gradient", "uniform", "values"] | str = "uniform",
        product: Literal["gradient", "uniform", "flat"] | str = "uniform",
        gate: Literal["product", "cut"] = "product",
    ) -> None:
        composite = replace(RES_LRP, residual_gamma=gamma, attention=attention, product=product, gate=gate)
        if modules != "*":
            override = Override(composite=composite, modules=modules)
            composite = replace(composite, residual="sum", residual_gamma=1.0, overrides=(override,))
        super().__init__(composite)
