"""Pair encoders: a model of one text or image, run on both sides of a pair."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.models.auto import modeling_auto

from apportion.core import ApportionError
from apportion.models.inputs import Sides, patch_cell, tokenizer_of
from apportion.models.kinds import kind_of_model

Pooling = Literal["mean", "cls", "last", "pooled"]


@dataclass(frozen=True)
class Encodings:
    """The encodings of the two sides of a pair, not normalised."""

    first: Float[Tensor, "examples d_model"]
    second: Float[Tensor, "examples d_model"]


class PairEncoder(nn.Module):
    """Encodes both sides of a pair by one model.

    Args:
        model: The model, which reads one side.
        pooling: How to make one vector: `"mean"` (over the attention mask, or an image's patches), `"cls"` (the first
            place), `"last"` (the last place of the mask), `"pooled"` (the model's own pooled output); None for the
            model's own encodings of texts or images, as in CLIP.
        source: Where the pooling was found, for results.
    """

    #: The method of models with encodings of their own that runs instead of their forward.
    own = ""

    def __init__(self, model: nn.Module, pooling: Pooling | None, source: str) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling
        self.source = source
        # It says how long inputs may be, and which tokens are images.
        self.config: Any = getattr(model, "config", None)

    @property
    def options(self) -> dict[str, Any]:
        """The pooling and its source, for results."""
        return {"pooling": self.pooling or self.own, "pooling from": self.source}

    def encoding(self, inputs: Mapping[str, Any]) -> Float[Tensor, "examples d_model"]:
        """The vector of one side, not normalised.

        Raises:
            ApportionError: The model does not return the output that the pooling needs.
        """
        given = {name: value for name, value in inputs.items() if value is not None}
        if self.pooling is None:
            found = getattr(self.model, self.own)(**given)
            return _tensor(getattr(found, "pooler_output", found), self)
        output = self.model(**given)
        if self.pooling == "pooled":
            return _tensor(getattr(output, "pooler_output", None), self)
        hidden = getattr(output, "last_hidden_state", None)
        if not isinstance(hidden, Tensor) or hidden.ndim not in (3, 4):
            raise ApportionError(
                f"{type(self.model).__name__} returns no last_hidden_state to pool ({type(output).__name__}); load the "
                "encoder without its head (AutoModel), or use pooling='pooled'."
            )
        if hidden.ndim == 4:  # (example, channel, row, column)
            hidden = hidden.flatten(2).transpose(1, 2)
        if self.pooling == "mean" and "pixel_values" in given:
            hidden = hidden[:, -self._patches(given["pixel_values"]) :]
        mask = given.get("attention_mask")
        return self._pooled(hidden, hidden.new_ones(hidden.shape[:2], dtype=torch.long) if mask is None else mask)

    def _patches(self, pixels: Tensor) -> int:
        """The number of an image's patches, which follow the model's special tokens; 0 if it is not known."""
        cell = patch_cell(self.model, pixels)
        return 0 if cell is None else (pixels.shape[-2] // cell[0]) * (pixels.shape[-1] // cell[1])

    def _pooled(
        self, hidden: Float[Tensor, "examples place d_model"], mask: Int[Tensor, "examples place"]
    ) -> Float[Tensor, "examples d_model"]:
        if self.pooling == "cls":
            return hidden[:, 0]
        if self.pooling == "last":
            last = (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(1)
            return hidden[torch.arange(len(hidden), device=hidden.device), last]
        weights = mask / mask.sum(1, keepdim=True)
        return (hidden * weights[..., None].to(hidden)).sum(1)


class TextPairEncoder(PairEncoder):
    """Encodes two texts."""

    own = "get_text_features"

    def forward(
        self,
        input_ids: Tensor,
        other_input_ids: Tensor,
        attention_mask: Tensor | None = None,
        other_attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        other_token_type_ids: Tensor | None = None,
    ) -> Encodings:
        """Both encodings."""
        first = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        other_masks = {"attention_mask": other_attention_mask, "token_type_ids": other_token_type_ids}
        return Encodings(self.encoding(first), self.encoding({"input_ids": other_input_ids, **other_masks}))


class ImagePairEncoder(PairEncoder):
    """Encodes two images."""

    own = "get_image_features"

    def forward(self, pixel_values: Tensor, other_pixel_values: Tensor) -> Encodings:
        """Both encodings."""
        first, second = {"pixel_values": pixel_values}, {"pixel_values": other_pixel_values}
        return Encodings(self.encoding(first), self.encoding(second))


def pair_encoder(model: nn.Module, processor: Any, pooling: Pooling | None, sides: Sides) -> PairEncoder:
    """The encoder of both sides of a pair of texts or of images.

    Without `pooling`, models that compare images with texts use their own encodings, image models their pooled output,
    and text models the pooling in their folder (as sentence-transformers writes it), else, if bidirectional, the mean.

    Raises:
        ApportionError: The model is not an encoder, does more than pool, or its pooling is not known.
    """
    made = TextPairEncoder if sides == "texts" else ImagePairEncoder
    name, kind = type(model).__name__, kind_of_model(model)
    if pooling is not None and pooling not in get_args(Pooling):
        raise ApportionError(f"pooling={pooling!r} is not known; use {', '.join(map(repr, get_args(Pooling)))}.")
    if kind.compares:
        if pooling is not None or not callable(getattr(model, made.own, None)):
            asked = "leave `pooling` out" if pooling is not None else "give an image and a text"
            raise ApportionError(f"{name} has encodings of its own, of images and texts; {asked}.")
        return made(model, None, "the model")
    if kind.has_head or getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise ApportionError(
            f"{name} is no encoder, so it defines no similarity of two {sides}; load the encoder alone "
            "(AutoModel, or get_encoder() of an encoder-decoder)."
        )
    if pooling is not None:
        return made(model, pooling, "the user")
    if sides == "images":
        return made(model, "pooled", "default")
    found = _in_folder(model, processor)
    if found is not None:
        return made(model, found, "1_Pooling/config.json")
    if _looks_back_only(model):
        raise ApportionError(
            f"{type(model).__name__} is a causal model, and encoders made of such models differ in their pooling; "
            "name it: Explainer(model, tokenizer, pooling='last') or pooling='mean'."
        )
    return made(model, "mean", "default")


def _tensor(found: Any, encoder: PairEncoder) -> Tensor:
    if isinstance(found, Tensor):
        return found.flatten(1)
    raise ApportionError(f"{type(encoder.model).__name__} gives no pooled output; use pooling='mean' or pooling='cls'.")


def _looks_back_only(model: nn.Module) -> bool:
    """Whether a model without a head is the body of a causal language model."""
    kinds = {parent.__name__ for parent in type(model).__mro__}
    bodies = getattr(modeling_auto, "MODEL_MAPPING_NAMES", {})
    causal = getattr(modeling_auto, "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", {})
    masked = getattr(modeling_auto, "MODEL_FOR_MASKED_LM_MAPPING_NAMES", {})
    names = [n for n, body in bodies.items() if kinds & set([body] if isinstance(body, str) else body)]
    return any(name in causal and name not in masked for name in names)


_MODES: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}


def _in_folder(model: nn.Module, processor: Any) -> Pooling | None:
    """The pooling that the model's folder names, as sentence-transformers writes it; None if it names none.

    Raises:
        ApportionError: It names more than one, an unknown one, or modules after it that the model does not contain.
    """
    sources = (getattr(model, "config", None), "_name_or_path"), (tokenizer_of(processor), "name_or_path")
    places = [getattr(source, name, "") for source, name in sources]
    place = next((place for place in places if place and _file(place, "modules.json")), None)
    read = None if place is None else _file(place, "modules.json")
    if place is None or read is None:
        return None
    modules = [(str(one.get("type", "")).rpartition(".")[2], one.get("path", "")) for one in json.loads(read)]
    more = [kind for kind, _ in modules if kind not in ("Transformer", "Pooling", "Normalize")]
    if more:
        raise ApportionError(
            f"{place} has a {more[0]} module after its pooling, which a transformers model does not contain, so the "
            "encodings would differ; put it into a module of yours, or name a pooling to omit it."
        )
    path = next((path for kind, path in modules if kind == "Pooling"), None)
    text = None if path is None else _file(place, f"{path}/config.json")
    if text is None:
        return None
    settings = json.loads(text)
    on = [name for name, value in settings.items() if name.startswith("pooling_mode_") and value is True]
    named = settings.get("pooling_mode")
    if not on and isinstance(named, str):
        on = [{"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}.get(named, named)]
    if len(on) != 1 or on[0] not in _MODES:
        raise ApportionError(
            f"{place} pools by {', '.join(on) or 'nothing known'}; pooling='mean', 'cls' and 'last' are offered."
        )
    return _MODES[on[0]]


def _file(place: str, name: str) -> str | None:
    """A file of a model's folder, or of what was downloaded from the hub before."""
    path: Any = Path(place) / name
    if not path.is_file():
        if Path(place).exists() or place.count("/") != 1:
            return None
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(place, name)
    return Path(path).read_text(encoding="utf-8") if isinstance(path, str | Path) else None
