"""Maskers: how absent features are hidden from the model."""

from apportion.games.maskers._drop_tokens import patch_sequence as patch_sequence
from apportion.games.maskers._drop_tokens import whole_patches as whole_patches
from apportion.games.maskers._masker import AnyMasker as AnyMasker
from apportion.games.maskers._masker import layers_without_attention as layers_without_attention
from apportion.games.maskers._masker import register_masker as register_masker
from apportion.games.maskers._masker_names import as_masker as as_masker
from apportion.games.maskers._mixed_masker import in_prompt as in_prompt
