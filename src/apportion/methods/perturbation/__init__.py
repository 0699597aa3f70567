"""Perturbation methods: how the target changes when features are removed."""

from apportion.methods.perturbation._atman import AtMan as AtMan
from apportion.methods.perturbation._banzhaf import Banzhaf as Banzhaf
from apportion.methods.perturbation._context_cite import ContextCite as ContextCite
from apportion.methods.perturbation._leave_one_out import LeaveOneOut as LeaveOneOut
from apportion.methods.perturbation._occlusion import Occlusion as Occlusion
from apportion.methods.perturbation._shapley import Shapley as Shapley
