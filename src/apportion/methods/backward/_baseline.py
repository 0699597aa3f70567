"""A baseline: the embeddings that stand for no information, where a path of integration begins."""

from __future__ import annotations

import torch

from apportion._errors import ApportionError
from apportion.methods.backward._neighbourhood import Neighbourhood, Point
from apportion.models._prompt import tokenizer_of

#: Special tokens that may serve, as tokenizers name them.
TOKENS = ("pad", "mask", "unk", "eos", "bos")
BASELINES = ("zero", "mean", *TOKENS)


def check_baseline(baseline: str | int) -> None:
    """Refuse what is no baseline.

    Raises:
        ApportionError: It is neither one of `BASELINES` nor a token id.
    """
    fits = isinstance(baseline, int) and not isinstance(baseline, bool) and baseline >= 0
    if not fits and baseline not in BASELINES:
        names = ", ".join(map(repr, BASELINES))
        raise ApportionError(f"baseline={baseline!r} is not known; use one of {names}, or a token id.")


def baseline_point(neighbourhood: Neighbourhood, baseline: str | int) -> Point:
    """The same embedding at every place: zeros, the mean of all tokens', or one token's.

    Raises:
        ApportionError: The model's tokenizer has no such token, or the model no such embedding.
    """
    here = neighbourhood.here
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


def _special_token(neighbourhood: Neighbourhood, name: str) -> int:
    tokenizer = tokenizer_of(neighbourhood.question.head.processor)
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
