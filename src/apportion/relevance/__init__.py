"""Relevance propagation: rules on the recorded autograd graph of an ordinary forward pass."""

from apportion.relevance._audit import Audit as Audit
from apportion.relevance._audit import AuditRow as AuditRow
from apportion.relevance._composite import ATTNLRP as ATTNLRP
from apportion.relevance._composite import CP_LRP as CP_LRP
from apportion.relevance._composite import GIM as GIM
from apportion.relevance._composite import GRADIENT as GRADIENT
from apportion.relevance._composite import MAMBA_LRP as MAMBA_LRP
from apportion.relevance._composite import NAMED as NAMED
from apportion.relevance._composite import PA_LRP as PA_LRP
from apportion.relevance._composite import RELP as RELP
from apportion.relevance._composite import RES_LRP as RES_LRP
from apportion.relevance._composite import Composite as Composite
from apportion.relevance._composite import Override as Override
from apportion.relevance._modulation import is_diffusion_transformer as is_diffusion_transformer
from apportion.relevance._modulation import modulation_held as modulation_held
from apportion.relevance._trace import Propagated as Propagated
from apportion.relevance._trace import Trace as Trace
from apportion.relevance._trace import record as record
from apportion.relevance._treatment import Operation as Operation
from apportion.relevance._treatment import Treatment as Treatment
from apportion.relevance._treatment import register_rule as register_rule
from apportion.relevance._treatment import unregister_rule as unregister_rule
from apportion.relevance._vision import attnlrp_vision as attnlrp_vision
from apportion.relevance._vision import vision_tower as vision_tower
