"""Results: data and their algebra."""

from apportion.results._attribution import Attribution as Attribution
from apportion.results._attributions import Attributions as Attributions
from apportion.results._comparison import Comparison as Comparison
from apportion.results._explained import Cost as Cost
from apportion.results._explained import Explained as Explained
from apportion.results._generated import Generated as Generated
from apportion.results._interactions import Interactions as Interactions
from apportion.results._of_targets import OfTargets as OfTargets
from apportion.results._pairwise import Pairwise as Pairwise
