"""The two sides of a dual encoder run separately: an image, encoded once, and the texts it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from apportion.core import ApportionError
from apportion.methods import Method, default_method
from apportion.models import Head, PairEncoder
from apportion.models.anatomy import in_evaluation
from apportion.models.inputs import Prompt, empty_text, text_prompt
from apportion.targets import Function
from apportion.task import AttributionTask

#: How many similarities, times patches of the image, are propagated together.
CELLS_AT_ONCE = 4096
TEXTS_AT_ONCE = 256


class ImageTower(PairEncoder):
    """The image side of a dual encoder."""

    own = "get_image_features"

    def forward(self, pixel_values: Tensor, **others: Any) -> BaseModelOutputWithPooling:
        """The encoding, normalised to length 1."""
        found = self.encoding({"pixel_values": pixel_values, **others})
        return BaseModelOutputWithPooling(pooler_output=found / found.norm(dim=-1, keepdim=True))


class TextTower(PairEncoder):
    """The text side of a dual encoder."""

    own = "get_text_features"


class Sides:
    """An image and the texts it is compared with.

    Args:
        prompt: The image with a text.
        head: The dual encoder.
        method: Any that supports its image side; None for the default.

    Raises:
        ApportionError: The model does not encode its sides separately.
    """

    def __init__(self, prompt: Prompt, head: Head, method: Method | None) -> None:
        self.head, self.features = head, prompt.before_tokens
        names = _names(head.model, "get_image_features") & set(prompt.inputs)
        inputs = {name: prompt.inputs[name] for name in names}
        alone = Prompt(inputs, prompt.features[: self.features], {}, continuous_inputs=prompt.continuous_inputs)
        tower = ImageTower(head.model, None, type(head.model).__name__)
        self.method = default_method(tower, pixels=True) if method is None else method
        self._text = TextTower(head.model, None, type(head.model).__name__)
        self.task = AttributionTask(
            Head(tower, head.kind, head.processor), [alone], [Function(_encoding)], detail=self.method.detail
        )
        self.task.summands = self.method.summands
        self._encoded: dict[str, Tensor] = {}

    @cached_property
    def at_once(self) -> int:
        """How many similarities are divided together."""
        grids = [continuous.patches or (1, continuous.count) for continuous in self.task.prompts[0].continuous_inputs]
        return max(1, CELLS_AT_ONCE // max(rows * columns for rows, columns in grids))

    def attributions(self, texts: Sequence[str]) -> Float[Tensor, "texts feature"]:
        """The method's attributions to the image's features, of the similarity to each text."""
        distinct = list(dict.fromkeys(texts))
        directions = self.encodings(distinct)
        found = []
        for some in directions.split(self.at_once):
            task = self.task.about([Function(_similarity_to(direction)) for direction in some])
            task.summands = self.method.summands
            shares = self.method.attribute(task)
            if shares.features is not None:
                raise ApportionError(
                    f"the method {self.method.name!r} divides among groups of its own; leave its option features at "
                    "'tokens', and name regions."
                )
            found.append(shares.scores[0].detach().double().cpu())
        return torch.cat(found)[[distinct.index(text) for text in texts]]

    def similarities(self, texts: Sequence[str]) -> Float[Tensor, " texts"]:
        """The cosine similarity of the image and each text."""
        image = self.task.trace.output.pooler_output.detach()
        return (self.encodings(texts) @ image[0]).double().cpu()

    def encodings(self, texts: Sequence[str]) -> Float[Tensor, "texts d_model"]:
        """The texts' encodings, normalised to length 1; every text is encoded once."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._encoded]
        names = _names(self.head.model, "get_text_features")
        by_length: dict[int, list[tuple[str, Mapping[str, Tensor]]]] = {}
        for text in missing:
            read = _tokenised(text, self.head)
            by_length.setdefault(read["input_ids"].shape[1], []).append((text, read))
        for same in by_length.values():
            for first in range(0, len(same), TEXTS_AT_ONCE):
                some = same[first : first + TEXTS_AT_ONCE]
                batch = {name: torch.cat([read[name] for _, read in some]) for name in some[0][1] if name in names}
                with in_evaluation(self.head.model), torch.no_grad():
                    found = self._text.encoding(batch)
                self.task.passes.forward += len(some)
                units = found / found.norm(dim=-1, keepdim=True)
                self._encoded.update(zip([text for text, _ in some], units, strict=True))
        return torch.stack([self._encoded[text] for text in texts])


def _encoding(output: Any) -> Tensor:
    """Any number computed from the encoding: a placeholder until the texts are known."""
    number: Tensor = output.pooler_output.sum()
    return number


def _similarity_to(direction: Float[Tensor, " d_model"]) -> Callable[[Any], Tensor]:
    def similarity(output: Any) -> Tensor:
        number: Tensor = output.pooler_output[0] @ direction
        return number

    return similarity


def _tokenised(text: str, head: Head) -> Mapping[str, Tensor]:
    """The model's inputs for a text, which may be empty if the tokenizer adds special tokens."""
    device = next(head.model.parameters()).device
    inputs = text_prompt(text, head.model, head.processor).inputs if text else empty_text(head.model, head.processor)
    config: Any = getattr(head.model, "config", None)
    most = getattr(getattr(config, "text_config", config), "max_position_embeddings", None)
    length = inputs["input_ids"].shape[1]
    if isinstance(most, int) and length > most:
        raise ApportionError(f"a caption is {length} tokens long; the model reads {most}. Shorten it, or split it.")
    if length == 0:
        raise ApportionError(
            "without its words nothing is left of the caption, since the tokenizer adds no special tokens; name spans "
            "as players, so that some text always remains."
        )
    return {name: value.to(device) for name, value in inputs.items() if isinstance(value, Tensor)}


def _names(model: nn.Module, function: str) -> set[str]:
    """The inputs of one side of a dual encoder."""
    own = getattr(model, function, None)
    if own is None:
        raise ApportionError(f"{type(model).__name__} does not encode texts and images apart (it has no {function}).")
    return set(signature(own).parameters)
