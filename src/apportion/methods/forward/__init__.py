"""Forward methods: the forward pass decomposed into each token's contributions."""

from apportion.methods.forward._alti import ALTI as ALTI
from apportion.methods.forward._alti_logit import ALTILogit as ALTILogit
from apportion.methods.forward._chefer import Chefer as Chefer
from apportion.methods.forward._decompx import DecompX as DecompX
from apportion.methods.forward._globenc import GlobEnc as GlobEnc
from apportion.methods.forward._grad_cam import AttentionGradCAM as AttentionGradCAM
from apportion.methods.forward._grad_rollout import GradRollout as GradRollout
from apportion.methods.forward._layer_inputs import reading_through as reading_through
from apportion.methods.forward._rollout import Rollout as Rollout
from apportion.methods.forward._value_zeroing import ValueZeroing as ValueZeroing
