"""Kinds of model by what they predict, one per file."""

from apportion.models.kinds._causal import Causal as Causal
from apportion.models.kinds._dual_encoder import DualEncoder as DualEncoder
from apportion.models.kinds._image_classification import ImageClassification as ImageClassification
from apportion.models.kinds._kind import Kind as Kind
from apportion.models.kinds._masked import Masked as Masked
from apportion.models.kinds._other import Other as Other
from apportion.models.kinds._registry import KINDS as KINDS
from apportion.models.kinds._registry import kind_of_model as kind_of_model
from apportion.models.kinds._registry import register_kind as register_kind
from apportion.models.kinds._seq2seq import Seq2Seq as Seq2Seq
from apportion.models.kinds._sequence_classification import SequenceClassification as SequenceClassification
from apportion.models.kinds._token_classification import TokenClassification as TokenClassification
