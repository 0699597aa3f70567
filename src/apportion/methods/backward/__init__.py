"""Backward methods: relevance or gradients, sent back through the model's own graph."""

from apportion.methods.backward._propagation import CPLRP as CPLRP
from apportion.methods.backward._propagation import AttnLRP as AttnLRP
from apportion.methods.backward._propagation import InputXGradient as InputXGradient
from apportion.methods.backward._propagation import Propagation as Propagation
