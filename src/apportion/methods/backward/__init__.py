"""Backward methods: relevance or gradients, sent back through the model's own graph."""

from apportion.methods.backward._attnlrp_vision import AttnLRPVision as AttnLRPVision
from apportion.methods.backward._expected_gradients import ExpectedGradients as ExpectedGradients
from apportion.methods.backward._gim import GIM as GIM
from apportion.methods.backward._gradient import Gradient as Gradient
from apportion.methods.backward._integrated_gradients import IntegratedGradients as IntegratedGradients
from apportion.methods.backward._mamba_lrp import MambaLRP as MambaLRP
from apportion.methods.backward._pa_lrp import PALRP as PALRP
from apportion.methods.backward._propagation import CPLRP as CPLRP
from apportion.methods.backward._propagation import AttnLRP as AttnLRP
from apportion.methods.backward._propagation import InputXGradient as InputXGradient
from apportion.methods.backward._propagation import Propagation as Propagation
from apportion.methods.backward._relp import RelP as RelP
from apportion.methods.backward._res_lrp import ResLRP as ResLRP
from apportion.methods.backward._smoothgrad import SmoothGrad as SmoothGrad
