"""Divide a transformer's prediction among what caused it, and show that the books balance."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apportion._attribution import Attribution as Attribution
    from apportion._attribution import Cost as Cost
    from apportion._attribution import Explained as Explained
    from apportion._comparison import Comparison as Comparison
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
    from apportion.methods import Shares as Shares
    from apportion.methods import register as register
    from apportion.relevance import ATTNLRP as ATTNLRP
    from apportion.relevance import CP_LRP as CP_LRP
    from apportion.relevance import GRADIENT as GRADIENT
    from apportion.relevance import Audit as Audit
    from apportion.relevance import Composite as Composite
    from apportion.relevance import Operation as Operation
    from apportion.relevance import Treatment as Treatment
    from apportion.relevance import register_rule as register_rule

__version__ = "0.1.0"

#: Where the public names live. They are imported when first used, so that the command line can answer without torch.
_HOMES = {
    "Attribution": "apportion._attribution",
    "Cost": "apportion._attribution",
    "Explained": "apportion._attribution",
    "Comparison": "apportion._comparison",
    "ApportionError": "apportion._errors",
    "NonFiniteRelevance": "apportion._errors",
    "RuleNotApplied": "apportion._errors",
    "UnknownOperation": "apportion._errors",
    "Explainer": "apportion._explainer",
    "Feature": "apportion._features",
    "Ledger": "apportion._ledger",
    "load": "apportion._load",
    "Span": "apportion._target",
    "Target": "apportion._target",
    "CPLRP": "apportion.methods",
    "AttnLRP": "apportion.methods",
    "InputXGradient": "apportion.methods",
    "Method": "apportion.methods",
    "Propagation": "apportion.methods",
    "Shares": "apportion.methods",
    "register": "apportion.methods",
    "ATTNLRP": "apportion.relevance",
    "CP_LRP": "apportion.relevance",
    "GRADIENT": "apportion.relevance",
    "Audit": "apportion.relevance",
    "Composite": "apportion.relevance",
    "Operation": "apportion.relevance",
    "Treatment": "apportion.relevance",
    "register_rule": "apportion.relevance",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'apportion' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
