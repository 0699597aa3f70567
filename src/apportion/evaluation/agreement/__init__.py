"""Subject–verb agreement: sentences whose verb's number is due to one known noun, and what they ask of a model."""

from apportion.evaluation.agreement._blimp import blimp as blimp
from apportion.evaluation.agreement._generator import CONSTRUCTIONS as CONSTRUCTIONS
from apportion.evaluation.agreement._generator import agreement_sentences as agreement_sentences
from apportion.evaluation.agreement._items import FittingItems as FittingItems
from apportion.evaluation.agreement._items import items_of as items_of
from apportion.evaluation.agreement._linzen import linzen as linzen
from apportion.evaluation.agreement._lm_syneval import lm_syneval as lm_syneval
from apportion.evaluation.agreement._sentence import Sentence as Sentence
