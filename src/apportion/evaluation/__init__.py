"""Evaluation: which explanation may be believed, measured on the user's own model and data."""

from apportion.evaluation._case import Case as Case
from apportion.evaluation._case import Ranked as Ranked
from apportion.evaluation._curves import PerturbationCurves as PerturbationCurves
from apportion.evaluation._data import as_data as as_data
from apportion.evaluation._evaluation import Evaluation as Evaluation
from apportion.evaluation._item import Item as Item
from apportion.evaluation._measure import Column as Column
from apportion.evaluation._measure import Measure as Measure
from apportion.evaluation._random import Random as Random
from apportion.evaluation._registry import MEASURES as MEASURES
from apportion.evaluation._registry import as_measure as as_measure
from apportion.evaluation._registry import register_measure as register_measure
from apportion.evaluation._rows import Row as Row
from apportion.evaluation._run import Run as Run
from apportion.evaluation._run import evaluate as evaluate
