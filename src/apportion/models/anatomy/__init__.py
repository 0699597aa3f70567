"""What stands where in a model: layers, attention, and what they compute."""

from apportion.models.anatomy._anatomy import Anatomy as Anatomy
from apportion.models.anatomy._anatomy import Layer as Layer
from apportion.models.anatomy._anatomy import anatomy as anatomy
from apportion.models.anatomy._attention import Heads as Heads
from apportion.models.anatomy._attention import attention_through as attention_through
from apportion.models.anatomy._attention import raised_scores as raised_scores
from apportion.models.anatomy._capturing import OTHERS as OTHERS
from apportion.models.anatomy._capturing import same as same
from apportion.models.anatomy._capturing import tolerance_of as tolerance_of
from apportion.models.anatomy._frozen_norm import FrozenNorm as FrozenNorm
from apportion.models.anatomy._linear_output import LinearOutput as LinearOutput
from apportion.models.anatomy._linear_output import linear_output as linear_output
from apportion.models.anatomy._running import in_evaluation as in_evaluation
