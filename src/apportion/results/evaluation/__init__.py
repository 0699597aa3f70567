"""Results of an evaluation: rows, tables, and a recommendation."""

from apportion.results.evaluation._column import RANDOM as RANDOM
from apportion.results.evaluation._column import Column as Column
from apportion.results.evaluation._evaluation import ROWS as ROWS
from apportion.results.evaluation._evaluation import SETTINGS as SETTINGS
from apportion.results.evaluation._evaluation import Evaluation as Evaluation
from apportion.results.evaluation._recommendation import Candidate as Candidate
from apportion.results.evaluation._recommendation import Recommendation as Recommendation
from apportion.results.evaluation._rows import Row as Row
from apportion.results.evaluation._rows import Rows as Rows
from apportion.results.evaluation._summary import RESAMPLES as RESAMPLES
from apportion.results.evaluation._summary import Only as Only
from apportion.results.evaluation._summary import intervals as intervals
