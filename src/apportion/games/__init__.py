"""Games over coalitions of features: maskers, payoffs and estimators."""

from apportion.games._banzhaf import sampled_banzhaf as sampled_banzhaf
from apportion.games._estimate import Estimate as Estimate
from apportion.games._exact import exact_banzhaf as exact_banzhaf
from apportion.games._exact import exact_shapley as exact_shapley
from apportion.games._game import Game as Game
from apportion.games._masker import AnyMasker as AnyMasker
from apportion.games._masker import AttentionMask as AttentionMask
from apportion.games._masker import Delete as Delete
from apportion.games._masker import Masker as Masker
from apportion.games._masker import MeanEmbedding as MeanEmbedding
from apportion.games._masker import Replace as Replace
from apportion.games._masker import ZeroEmbedding as ZeroEmbedding
from apportion.games._masker import as_masker as as_masker
from apportion.games._payoff import Payoff as Payoff
from apportion.games._payoff import presence as presence
from apportion.games._payoff import target_payoff as target_payoff
from apportion.games._permutations import permutation_shapley as permutation_shapley
from apportion.games._players import AnyPlayers as AnyPlayers
from apportion.games._players import Players as Players
from apportion.games._players import players_of as players_of
from apportion.games._players import to_features as to_features
from apportion.games._regression import kernel_shap as kernel_shap
from apportion.games._regression import leverage_shap as leverage_shap
from apportion.games._surrogate import Surrogate as Surrogate
from apportion.games._surrogate import sparse_surrogate as sparse_surrogate
