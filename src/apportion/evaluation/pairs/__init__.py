"""Pairs: whether a second order ranks the pairs of features as the model itself joins them."""

from apportion.evaluation.pairs._directed import directed_effects as directed_effects
from apportion.evaluation.pairs._directed import directed_payoff as directed_payoff
from apportion.evaluation.pairs._effects import PairEffects as PairEffects
from apportion.evaluation.pairs._effects import pair_effects as pair_effects
from apportion.evaluation.pairs._effects import pair_payoff as pair_payoff
from apportion.evaluation.pairs._one_score import one_score_a_pair as one_score_a_pair
from apportion.evaluation.pairs._ranking import effect_captured as effect_captured
from apportion.evaluation.pairs._recall import pair_recall as pair_recall
from apportion.evaluation.pairs._recall import random_recall as random_recall
from apportion.evaluation.pairs._removal import PairRemoval as PairRemoval
from apportion.evaluation.pairs._removal import pair_removal as pair_removal
