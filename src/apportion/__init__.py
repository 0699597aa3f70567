"""Divide a transformer's prediction among what caused it, and show that the books balance."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apportion.core._errors import ApportionError as ApportionError
    from apportion.core._errors import NonFiniteRelevance as NonFiniteRelevance
    from apportion.core._errors import RuleNotApplied as RuleNotApplied
    from apportion.core._errors import UnknownOperation as UnknownOperation
    from apportion.core._features import Feature as Feature
    from apportion.core._ledger import Ledger as Ledger
    from apportion.core._pair import Pair as Pair
    from apportion.core._picture import Picture as Picture
    from apportion.explain._explainer import Explainer as Explainer
    from apportion.explain._generation import Generation as Generation
    from apportion.explain._load import load as load
    from apportion.games import AttentionMask as AttentionMask
    from apportion.games import Delete as Delete
    from apportion.games import Masker as Masker
    from apportion.games import MeanEmbedding as MeanEmbedding
    from apportion.games import Replace as Replace
    from apportion.games import ZeroEmbedding as ZeroEmbedding
    from apportion.methods import ALTI as ALTI
    from apportion.methods import CPLRP as CPLRP
    from apportion.methods import GIM as GIM
    from apportion.methods import PALRP as PALRP
    from apportion.methods import ALTILogit as ALTILogit
    from apportion.methods import AtMan as AtMan
    from apportion.methods import AttentionGradCAM as AttentionGradCAM
    from apportion.methods import AttnLRP as AttnLRP
    from apportion.methods import AttnLRPVision as AttnLRPVision
    from apportion.methods import Banzhaf as Banzhaf
    from apportion.methods import Chefer as Chefer
    from apportion.methods import ContextCite as ContextCite
    from apportion.methods import DecompX as DecompX
    from apportion.methods import ExpectedGradients as ExpectedGradients
    from apportion.methods import GlobEnc as GlobEnc
    from apportion.methods import Gradient as Gradient
    from apportion.methods import GradRollout as GradRollout
    from apportion.methods import InputXGradient as InputXGradient
    from apportion.methods import IntegratedGradients as IntegratedGradients
    from apportion.methods import LeaveOneOut as LeaveOneOut
    from apportion.methods import MambaLRP as MambaLRP
    from apportion.methods import Method as Method
    from apportion.methods import Occlusion as Occlusion
    from apportion.methods import Propagation as Propagation
    from apportion.methods import RelP as RelP
    from apportion.methods import ResLRP as ResLRP
    from apportion.methods import Rollout as Rollout
    from apportion.methods import Shapley as Shapley
    from apportion.methods import Shares as Shares
    from apportion.methods import Shifted as Shifted
    from apportion.methods import SmoothGrad as SmoothGrad
    from apportion.methods import ValueZeroing as ValueZeroing
    from apportion.methods import register as register
    from apportion.relevance import ATTNLRP as ATTNLRP
    from apportion.relevance import CP_LRP as CP_LRP
    from apportion.relevance import GRADIENT as GRADIENT
    from apportion.relevance import Audit as Audit
    from apportion.relevance import Composite as Composite
    from apportion.relevance import Operation as Operation
    from apportion.relevance import Treatment as Treatment
    from apportion.relevance import attnlrp_vision as attnlrp_vision
    from apportion.relevance import register_rule as register_rule
    from apportion.results._attribution import Attribution as Attribution
    from apportion.results._comparison import Comparison as Comparison
    from apportion.results._explained import Cost as Cost
    from apportion.results._explained import Explained as Explained
    from apportion.results._interactions import Interactions as Interactions
    from apportion.results._pairwise import Pairwise as Pairwise
    from apportion.targets._computed import Computed as Computed
    from apportion.targets._computed import Cosine as Cosine
    from apportion.targets._computed import Projection as Projection
    from apportion.targets._computed import Similarity as Similarity
    from apportion.targets._span import Span as Span
    from apportion.targets._target import Target as Target

__version__ = "0.1.0"

#: Where the public names live. They are imported when first used, so that the command line can answer without torch.
_HOMES = {
    "Attribution": "apportion.results._attribution",
    "Cost": "apportion.results._attribution",
    "Explained": "apportion.results._attribution",
    "Comparison": "apportion.results._comparison",
    "Computed": "apportion.targets._computed",
    "Cosine": "apportion.targets._computed",
    "Projection": "apportion.targets._computed",
    "Similarity": "apportion.targets._computed",
    "Pair": "apportion.core._pair",
    "Pairwise": "apportion.results._pairwise",
    "Picture": "apportion.core._picture",
    "ApportionError": "apportion.core._errors",
    "NonFiniteRelevance": "apportion.core._errors",
    "RuleNotApplied": "apportion.core._errors",
    "UnknownOperation": "apportion.core._errors",
    "Explainer": "apportion.explain._explainer",
    "Interactions": "apportion.results._interactions",
    "Feature": "apportion.core._features",
    "Generation": "apportion.explain._generation",
    "Ledger": "apportion.core._ledger",
    "load": "apportion.explain._load",
    "Span": "apportion.targets._span",
    "Target": "apportion.targets._target",
    "CPLRP": "apportion.methods",
    "AttnLRP": "apportion.methods",
    "AttnLRPVision": "apportion.methods",
    "ExpectedGradients": "apportion.methods",
    "Gradient": "apportion.methods",
    "InputXGradient": "apportion.methods",
    "IntegratedGradients": "apportion.methods",
    "ALTI": "apportion.methods",
    "ALTILogit": "apportion.methods",
    "Rollout": "apportion.methods",
    "AttentionGradCAM": "apportion.methods",
    "Chefer": "apportion.methods",
    "GradRollout": "apportion.methods",
    "ValueZeroing": "apportion.methods",
    "GlobEnc": "apportion.methods",
    "DecompX": "apportion.methods",
    "Method": "apportion.methods",
    "Propagation": "apportion.methods",
    "SmoothGrad": "apportion.methods",
    "Shares": "apportion.methods",
    "Shifted": "apportion.methods",
    "register": "apportion.methods",
    "GIM": "apportion.methods",
    "MambaLRP": "apportion.methods",
    "PALRP": "apportion.methods",
    "RelP": "apportion.methods",
    "ResLRP": "apportion.methods",
    "attnlrp_vision": "apportion.relevance",
    "AttentionMask": "apportion.games",
    "Delete": "apportion.games",
    "Masker": "apportion.games",
    "MeanEmbedding": "apportion.games",
    "Replace": "apportion.games",
    "ZeroEmbedding": "apportion.games",
    "AtMan": "apportion.methods",
    "LeaveOneOut": "apportion.methods",
    "Occlusion": "apportion.methods",
    "Shapley": "apportion.methods",
    "Banzhaf": "apportion.methods",
    "ContextCite": "apportion.methods",
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
