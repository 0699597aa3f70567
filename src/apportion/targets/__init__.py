"""Targets: the numbers that are divided among the features."""

from apportion.targets._any_target import AnyTarget as AnyTarget
from apportion.targets._any_target import At as At
from apportion.targets._any_target import NamedOutputs as NamedOutputs
from apportion.targets._any_target import TargetFn as TargetFn
from apportion.targets._as_targets import Contrast as Contrast
from apportion.targets._as_targets import TargetLike as TargetLike
from apportion.targets._as_targets import TargetsLike as TargetsLike
from apportion.targets._as_targets import as_targets as as_targets
from apportion.targets._computed import Computed as Computed
from apportion.targets._computed import Cosine as Cosine
from apportion.targets._computed import Outputs as Outputs
from apportion.targets._computed import Projection as Projection
from apportion.targets._computed import Similarity as Similarity
from apportion.targets._computed import computed_outputs as computed_outputs
from apportion.targets._computed import encodings_of as encodings_of
from apportion.targets._function import Function as Function
from apportion.targets._span import Span as Span
from apportion.targets._span import summed_unit as summed_unit
from apportion.targets._target import UNITS as UNITS
from apportion.targets._target import Target as Target
from apportion.targets._target import Unit as Unit
