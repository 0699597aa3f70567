"""The metagame: a Shapley game whose payoff is a first-order attribution."""

from apportion.metagame._absence import masker_of as masker_of
from apportion.metagame._attribution_payoff import attribution_payoff as attribution_payoff
from apportion.metagame._play import AnyOf as AnyOf
from apportion.metagame._play import Game as Game
from apportion.metagame._play import play as play
from apportion.metagame.captions._words_to_patches import pair_of as pair_of
from apportion.metagame.captions._words_to_patches import play_words as play_words
from apportion.metagame.estimators._estimate import MetaEstimate as MetaEstimate
from apportion.metagame.estimators._estimators import Budget as Budget
from apportion.metagame.estimators._estimators import Estimator as Estimator
from apportion.metagame.estimators._estimators import estimated as estimated
from apportion.metagame.estimators._exact import exact as exact
from apportion.metagame.estimators._exact import third_order as third_order
from apportion.metagame.estimators._game import MetaGame as MetaGame
from apportion.metagame.estimators._permutations import permutations as permutations
from apportion.metagame.estimators._regression import regression as regression
from apportion.metagame.estimators._tree_proxy import tree_proxy as tree_proxy
from apportion.metagame.indices._related import METHOD_OF as METHOD_OF
from apportion.metagame.indices._related import Index as Index
from apportion.metagame.indices._related import check_index as check_index
from apportion.metagame.indices._related import related_index as related_index
