"""A kind of model: what it predicts, and all that follows from that for prompts and targets."""

from __future__ import annotations

from abc import ABC
from functools import cache
from typing import Any, ClassVar

from torch import nn
from transformers.models.auto import modeling_auto

from apportion.models.inputs import Prompt


class Kind(ABC):
    """What a model predicts.

    A new kind is a subclass in a file of its own that `register_kind` makes known.
    """

    #: As results show it; set when the kind is registered.
    name: ClassVar[str]
    #: The tables of transformers that name the classes of this kind.
    mappings: ClassVar[tuple[str, ...]] = ()
    #: Whether it predicts at all, rather than being a body without a head.
    has_head: ClassVar[bool] = True
    #: Whether its outputs are classes that the configuration names, rather than tokens.
    has_classes: ClassVar[bool] = False
    #: Whether its output has a row for each token, rather than one for the whole input.
    per_token: ClassVar[bool] = False
    #: Whether it continues a prompt token by token, so that what it writes can be explained.
    writes: ClassVar[bool] = False
    #: Whether what it writes is a sequence of its own, beside that of the prompt.
    has_decoder: ClassVar[bool] = False
    #: Whether no token reads what stands after it anywhere in the model. Padding on the right is then harmless, rows
    #: that no target reads can be left out, and a prefix can be computed once.
    looks_back: ClassVar[bool] = False
    #: Whether it predicts the tokens that a mask stands for.
    fills_masks: ClassVar[bool] = False
    #: Whether it encodes two things and compares them.
    compares: ClassVar[bool] = False
    #: Whether it reads one image and nothing else.
    of_images: ClassVar[bool] = False
    #: Whether it finds the end of a text by the padding behind it.
    reads_padding: ClassVar[bool] = False

    @property
    def continued_input(self) -> str:
        """The input that what it writes is appended to."""
        return "decoder_input_ids" if self.has_decoder else "input_ids"

    def claims(self, class_name: str, model: nn.Module) -> bool:
        """Whether a model is of this kind by the name of its class, or of one that it inherits from."""
        return class_name in class_names(*self.mappings)

    def started(self, prompt: Prompt, model: nn.Module, processor: Any) -> Prompt:
        """The prompt with what the model reads before it predicts.

        Raises:
            ApportionError: The prompt lacks something that the model reads.
        """
        return prompt

    def rows_in(self, parts: tuple[str, ...]) -> str:
        """The one of the inputs of tokens whose places the rows of the output are."""
        return parts[0]

    def row(self, prompt: Prompt, length: int, tokenizer: Any) -> int:
        """The row that is read unless a position is given, where the output has a row for each token.

        Args:
            prompt: What the model reads.
            length: How many rows there are.
            tokenizer: Of the model, if there is one.

        Raises:
            ApportionError: There is no such row, so that a position has to be given.
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
