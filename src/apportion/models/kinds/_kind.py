"""The base class of kinds of model: what a model predicts, and what follows for prompts and targets."""

from __future__ import annotations

from abc import ABC
from functools import cache
from typing import Any, ClassVar

from torch import nn
from transformers.models.auto import modeling_auto

from apportion.models.inputs import Prompt


class Kind(ABC):
    """What a model predicts. A new kind is a subclass, registered by `register_kind`."""

    #: The name in results, set by `register_kind`.
    name: ClassVar[str]
    #: The tables of transformers that name the classes of this kind.
    mappings: ClassVar[tuple[str, ...]] = ()
    #: Whether it has a head that predicts.
    has_head: ClassVar[bool] = True
    #: Whether its outputs are classes that the configuration names, rather than tokens.
    has_classes: ClassVar[bool] = False
    #: Whether its output has a row for each token, rather than one for the whole input.
    per_token: ClassVar[bool] = False
    #: Whether it continues a prompt token by token, so that what it writes can be explained.
    writes: ClassVar[bool] = False
    #: Whether it writes to a sequence separate from the prompt.
    has_decoder: ClassVar[bool] = False
    #: Whether no token depends on later ones anywhere in the model. Then padding on the right is harmless, rows that no
    #: target reads can be omitted, and a prefix can be computed once.
    looks_back: ClassVar[bool] = False
    #: Whether it predicts masked tokens.
    fills_masks: ClassVar[bool] = False
    #: Whether it encodes two inputs and compares them.
    compares: ClassVar[bool] = False
    #: Whether it reads one image and nothing else.
    of_images: ClassVar[bool] = False
    #: Whether it finds the end of a text by the padding after it.
    reads_padding: ClassVar[bool] = False

    @property
    def continued_input(self) -> str:
        """The input to which generated tokens are appended."""
        return "decoder_input_ids" if self.has_decoder else "input_ids"

    def claims(self, class_name: str, model: nn.Module) -> bool:
        """Whether a model is of this kind, by the name of its class or of a parent class."""
        return class_name in class_names(*self.mappings)

    def started(self, prompt: Prompt, model: nn.Module, processor: Any) -> Prompt:
        """The prompt with everything that the model reads before it predicts; rejects an incomplete prompt."""
        return prompt

    def rows_in(self, parts: tuple[str, ...]) -> str:
        """The input of tokens that the rows of the output belong to."""
        return parts[0]

    def row(self, prompt: Prompt, length: int, tokenizer: Any) -> int:
        """The row to read without a given position, among `length` rows, one for each token.

        Raises:
            ApportionError: There is no such row, so a position must be given.
        """
        return length - 1


@cache
def class_names(*mappings: str) -> frozenset[str]:
    """The names of all classes in tables of transformers."""
    names: set[str] = set()
    for mapping in mappings:
        for value in getattr(modeling_auto, mapping, {}).values():
            names.update([value] if isinstance(value, str) else value)
    return frozenset(names)
