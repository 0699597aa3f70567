"""Closed-domain question answering: questions whose answer is a known part of a text, and what they ask of a model."""

from apportion.evaluation.questions._generated import questions as questions
from apportion.evaluation.questions._items import WORDING as WORDING
from apportion.evaluation.questions._items import items_of as items_of
from apportion.evaluation.questions._span_question import SpanQuestion as SpanQuestion
from apportion.evaluation.questions._squad import squad as squad
