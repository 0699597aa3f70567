"""Values of games, exact or estimated from samples."""

from apportion.games.values._coalitions import all_coalitions as all_coalitions
from apportion.games.values._coalitions import coalitions_of_size as coalitions_of_size
from apportion.games.values._coalitions import distinct_coalitions_of_size as distinct_coalitions_of_size
from apportion.games.values._coalitions import permutations as permutations
from apportion.games.values._exact import MOST_PLAYERS_EXACT as MOST_PLAYERS_EXACT
from apportion.games.values._interaction_indices import MOST_PLAYERS_OF_PAIRS as MOST_PLAYERS_OF_PAIRS
from apportion.games.values._interaction_indices import dividends_of as dividends_of
from apportion.games.values._interaction_indices import shapley_interaction as shapley_interaction
from apportion.games.values._interaction_indices import shapley_taylor as shapley_taylor
from apportion.games.values._pairs import Pairs as Pairs
from apportion.games.values._permutations import FEWEST_PAIRS as FEWEST_PAIRS
from apportion.games.values._regression import fitted_to as fitted_to
from apportion.games.values._regression import stratum_variance as stratum_variance
