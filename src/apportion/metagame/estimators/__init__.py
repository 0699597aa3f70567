"""Estimators of second-order effects: exact, or from sampled coalitions."""

from apportion.metagame.estimators._estimate import MetaEstimate as MetaEstimate
from apportion.metagame.estimators._estimators import Budget as Budget
from apportion.metagame.estimators._estimators import Estimator as Estimator
from apportion.metagame.estimators._estimators import estimated as estimated
from apportion.metagame.estimators._exact import third_order as third_order
from apportion.metagame.estimators._game import MetaGame as MetaGame
