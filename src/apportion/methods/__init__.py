"""First-order methods: which share of a target each feature gets."""

from apportion.methods._method import Method as Method
from apportion.methods._method import Shares as Shares
from apportion.methods._names import METHODS as METHODS
from apportion.methods._names import AnyMethod as AnyMethod
from apportion.methods._names import as_method as as_method
from apportion.methods._propagation import CPLRP as CPLRP
from apportion.methods._propagation import AttnLRP as AttnLRP
from apportion.methods._propagation import InputXGradient as InputXGradient
from apportion.methods._propagation import Propagation as Propagation
