"""Divide a transformer's prediction among what caused it, and show that the books balance."""

from apportion._attribution import Attribution as Attribution
from apportion._attribution import Explained as Explained
from apportion._errors import ApportionError as ApportionError
from apportion._errors import NonFiniteRelevance as NonFiniteRelevance
from apportion._errors import RuleNotApplied as RuleNotApplied
from apportion._errors import UnknownOperation as UnknownOperation
from apportion._explainer import Explainer as Explainer
from apportion._features import Feature as Feature
from apportion._ledger import Ledger as Ledger
from apportion._load import load as load
from apportion._target import Span as Span
from apportion._target import Target as Target
from apportion.methods import CPLRP as CPLRP
from apportion.methods import AttnLRP as AttnLRP
from apportion.methods import InputXGradient as InputXGradient
from apportion.methods import Method as Method
from apportion.methods import Propagation as Propagation
from apportion.relevance import ATTNLRP as ATTNLRP
from apportion.relevance import CP_LRP as CP_LRP
from apportion.relevance import GRADIENT as GRADIENT
from apportion.relevance import Audit as Audit
from apportion.relevance import Composite as Composite
from apportion.relevance import Operation as Operation
from apportion.relevance import Treatment as Treatment
from apportion.relevance import register_rule as register_rule

__version__ = "0.1.0"
