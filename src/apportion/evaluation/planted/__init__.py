"""Planted truth: small transformers built by hand, whose right answer and its cause are known by construction."""

from apportion.evaluation.planted._planted import Planted as Planted
from apportion.evaluation.planted._planted import PlantedName as PlantedName
from apportion.evaluation.planted._planted import planted as planted
from apportion.evaluation.planted._puzzle import Place as Place
from apportion.evaluation.planted._puzzle import Puzzle as Puzzle
