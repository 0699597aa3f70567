"""The engine: prompts → task → method → result, for the explainer, the evaluation and the command line."""

from apportion.engine._choices import COMPARED as COMPARED
from apportion.engine._choices import MEASURED as MEASURED
from apportion.engine._choices import AnyMethods as AnyMethods
from apportion.engine._choices import Positions as Positions
from apportion.engine._choices import check_positions as check_positions
from apportion.engine._choices import named_methods as named_methods
from apportion.engine._compared import compared as compared
from apportion.engine._engine import Engine as Engine
from apportion.engine._many import explained_in_turn as explained_in_turn
from apportion.engine._request import Request as Request
