"""First-order methods: which share of a target each feature gets."""

from apportion.methods._method import About as About
from apportion.methods._method import Method as Method
from apportion.methods._method import Shares as Shares
from apportion.methods._plugins import load_plugin as load_plugin
from apportion.methods._registry import METHODS as METHODS
from apportion.methods._registry import AnyMethod as AnyMethod
from apportion.methods._registry import as_method as as_method
from apportion.methods._registry import needs_options as needs_options
from apportion.methods._registry import register as register
from apportion.methods.backward import CPLRP as CPLRP
from apportion.methods.backward import AttnLRP as AttnLRP
from apportion.methods.backward import InputXGradient as InputXGradient
from apportion.methods.backward import Propagation as Propagation
