"""How a model comes in."""

from apportion.models._load import load as load
