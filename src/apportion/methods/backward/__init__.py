"""Backward methods: relevance or gradients, sent back through the model's own graph."""

from apportion.methods.backward._attnlrp_vision import AttnLRPVision as AttnLRPVision
from apportion.methods.backward._baseline import baseline_point as baseline_point
from apportion.methods.backward._counts import check_count as check_count
from apportion.methods.backward._expected_gradients import ExpectedGradients as ExpectedGradients
from apportion.methods.backward._gim import GIM as GIM
from apportion.methods.backward._gradient import Gradient as Gradient
from apportion.methods.backward._integrated_gradients import IntegratedGradients as IntegratedGradients
from apportion.methods.backward._mamba_lrp import MambaLRP as MambaLRP
from apportion.methods.backward._neighbourhood import Neighbourhood as Neighbourhood
from apportion.methods.backward._neighbourhood import Place as Place
from apportion.methods.backward._neighbourhood import Point as Point
from apportion.methods.backward._neighbourhood import moves as moves
from apportion.methods.backward._pa_lrp import PALRP as PALRP
from apportion.methods.backward._pairwise import pairwise as pairwise
from apportion.methods.backward._propagation import CPLRP as CPLRP
from apportion.methods.backward._propagation import AttnLRP as AttnLRP
from apportion.methods.backward._propagation import InputXGradient as InputXGradient
from apportion.methods.backward._propagation import Propagation as Propagation
from apportion.methods.backward._recipe import register_recipe as register_recipe
from apportion.methods.backward._relp import RelP as RelP
from apportion.methods.backward._res_lrp import ResLRP as ResLRP
from apportion.methods.backward._smoothgrad import SmoothGrad as SmoothGrad
from apportion.methods.backward._tokens import shares_of_tokens as shares_of_tokens
