"""A baseline: the embeddings and images without information from which a path of integration starts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.methods.backward._neighbourhood import Neighbourhood, Place, Point
from apportion.models.inputs import Layout, layout_of, tokenizer_of

#: Special tokens that may be baselines, by their names in tokenizers.
TOKENS = ("pad", "mask", "unk", "eos", "bos")
BASELINES = ("zero", "mean", "blur", *TOKENS)

#: The standard deviation of a blur, relative to the image's shorter side.
BLUR = 0.1


def check_baseline(baseline: str | int) -> None:
    """Reject a baseline that is neither one of `BASELINES` nor a token id."""
    fits = isinstance(baseline, int) and not isinstance(baseline, bool) and baseline >= 0
    if not fits and baseline not in BASELINES:
        names = ", ".join(map(repr, BASELINES))
        raise ApportionError(f"baseline={baseline!r} is not known; use one of {names}, or a token id.")


def baseline_point(neighbourhood: Neighbourhood, baseline: str | int) -> Point:
    """The same embedding at every place: zeros, the mean of all tokens', or one token's; and images without content.

    Raises:
        ApportionError: The model's tokenizer has no such token, or the model no such embedding; or the prompt has no
            image to blur, or no tokens.
    """
    here = {place: x for place, x in neighbourhood.here.items() if neighbourhood.continuous(place) is None}
    images = {place: _image(neighbourhood, place, baseline) for place in neighbourhood.here if place not in here}
    if baseline == "blur" and not images:
        raise ApportionError("baseline='blur' is for images and this prompt has none; use 'zero', 'mean' or a token.")
    if not here and baseline not in ("zero", "mean", "blur"):
        raise ApportionError(
            f"baseline={baseline!r} is a token and this prompt has only images; use 'zero', 'mean' or 'blur'."
        )
    return images | _tokens(neighbourhood, here, "zero" if baseline == "blur" else baseline)


def _tokens(neighbourhood: Neighbourhood, here: Point, baseline: str | int) -> dict[Place, Tensor]:
    """The same embedding at every place of tokens."""
    if baseline == "zero":
        return {place: torch.zeros_like(x) for place, x in here.items()}
    if baseline == "mean":
        return {place: neighbourhood.mean_embedding(place).expand_as(x) for place, x in here.items()}
    token = baseline if isinstance(baseline, int) else _special_token(neighbourhood, baseline)
    for place in here:
        if token >= neighbourhood.known(place):
            raise ApportionError(
                f"baseline={baseline!r} is out of the vocabulary: the model knows tokens 0 to "
                f"{neighbourhood.known(place) - 1}."
            )
    ids = torch.tensor([token])
    return {place: neighbourhood.embeddings(place, ids)[0].expand_as(x) for place, x in here.items()}


def _image(neighbourhood: Neighbourhood, place: Place, baseline: str | int) -> Tensor:
    """An image without content: zeros after normalisation, one colour, or itself blurred."""
    value = neighbourhood.here[place]
    if baseline not in ("mean", "blur"):
        return torch.zeros_like(value)
    layout = layout_at(neighbourhood, place)
    change = _flat if baseline == "mean" else _blurred
    return refilled(layout, [change(image) for image in layout.images(value)], value)


def layout_at(neighbourhood: Neighbourhood, place: Place) -> Layout:
    """The pixel of each element of a continuous input."""
    task = neighbourhood.task
    return layout_of(task.head.model, place[1], dict(task.prompts[0].inputs))


def refilled(layout: Layout, images: Sequence[Tensor], value: Tensor) -> Tensor:
    """An input made of these images, (height, width, channel) each, with the padding of `value`."""
    pixels = torch.cat([image.flatten(0, 1) for image in images])
    place, channel = (index.to(value.device).expand(value.shape) for index in (layout.place, layout.channel))
    return torch.where(place >= 0, pixels[place, channel], value)


def _flat(image: Float[Tensor, "height width channel"]) -> Float[Tensor, "height width channel"]:
    return image.mean((0, 1)).expand_as(image)


def _blurred(image: Float[Tensor, "height width channel"]) -> Float[Tensor, "height width channel"]:
    """The image under a Gaussian filter, each pixel's weights scaled to sum 1 within the image."""
    sigma = BLUR * min(image.shape[:2])
    down, across = (_filter(length, sigma).to(image) for length in image.shape[:2])
    return torch.einsum("ih,jw,hwc->ijc", down, across, image)


def _filter(length: int, sigma: float) -> Float[Tensor, "length length"]:
    places = torch.arange(length, dtype=torch.float64)
    weights = torch.exp(-((places[:, None] - places) ** 2) / (2 * sigma**2))
    return weights / weights.sum(-1, keepdim=True)


def _special_token(neighbourhood: Neighbourhood, name: str) -> int:
    tokenizer = tokenizer_of(neighbourhood.task.head.processor)
    if tokenizer is None:
        raise ApportionError(
            f"baseline={name!r} needs a tokenizer: Explainer(model, tokenizer), or give the token's id as the baseline."
        )
    token = getattr(tokenizer, f"{name}_token_id", None)
    if token is None:
        has = [repr(other) for other in TOKENS if getattr(tokenizer, f"{other}_token_id", None) is not None]
        raise ApportionError(
            f"baseline={name!r} was asked for but the tokenizer has no {name} token; "
            f"use {', '.join([*has, repr('zero'), repr('mean')])} or a token id."
        )
    return int(token)
