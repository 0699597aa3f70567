"""The front door: the explainer, what it generates, and models by name."""

from apportion.explain._explainer import COMPARED as COMPARED
from apportion.explain._explainer import MEASURED as MEASURED
from apportion.explain._explainer import Explainer as Explainer
