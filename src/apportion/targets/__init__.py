"""Targets: what is divided."""

from apportion.targets._computed import Computed as Computed
from apportion.targets._computed import Cosine as Cosine
from apportion.targets._computed import Outputs as Outputs
from apportion.targets._computed import Projection as Projection
from apportion.targets._computed import Similarity as Similarity
from apportion.targets._computed import encodings_of as encodings_of
from apportion.targets._target import UNITS as UNITS
from apportion.targets._target import AnyTarget as AnyTarget
from apportion.targets._target import Reading as Reading
from apportion.targets._target import Span as Span
from apportion.targets._target import Target as Target
from apportion.targets._target import Unit as Unit
from apportion.targets._target import as_targets as as_targets
from apportion.targets._target import read_callable as read_callable
from apportion.targets._target import read_computed as read_computed
from apportion.targets._target import read_outputs as read_outputs
from apportion.targets._target import read_span as read_span
from apportion.targets._target import summed_unit as summed_unit
