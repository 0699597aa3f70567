"""Tasks: prompts and targets, with the forward pass that all methods share."""

from apportion.task._batching import TOKENS_AT_ONCE as TOKENS_AT_ONCE
from apportion.task._batching import batches as batches
from apportion.task._batching import tokens_of as tokens_of
from apportion.task._task import AttributionTask as AttributionTask
from apportion.task._variant import Change as Change
from apportion.task._variant import Variant as Variant
