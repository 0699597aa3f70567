"""The entry points: the explainer, generations, and loading models by name."""

from apportion.explain._explainer import Explainer as Explainer
from apportion.explain._generation import Generation as Generation
from apportion.explain._load import load as load
