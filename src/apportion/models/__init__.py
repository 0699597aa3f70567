"""How a model comes in."""

from apportion.models._generate import generated_ids as generated_ids
from apportion.models._load import Attention as Attention
from apportion.models._load import load as load
from apportion.models._outputs import Head as Head
from apportion.models._outputs import detached as detached
from apportion.models._pair_encoder import PairEncoder as PairEncoder
from apportion.models._pair_encoder import Pooling as Pooling
from apportion.models._pair_encoder import pair_encoder as pair_encoder
from apportion.models.kinds import DualEncoder as DualEncoder
from apportion.models.kinds import Kind as Kind
from apportion.models.kinds import kind_of_model as kind_of_model
from apportion.models.kinds import register_kind as register_kind
