"""Similarities of neighbouring sentences, for the sentence encoder."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

import apportion as ap
from apportion.evaluation import Item
from benchmarks.studies._texts import beginnings, sentences


def similarities(explainer: ap.Explainer) -> Iterator[Item]:
    """For the beginning of each sentence its cosine similarity to the whole of the next, whose embedding is fixed."""
    for item, (_, other) in zip(beginnings(), pairwise(sentences()), strict=False):
        yield replace(item, target=similarity_to(embedding(explainer, other)))


def embedding(explainer: ap.Explainer, text: str) -> Tensor:
    with torch.no_grad():
        output = explainer.model(**explainer.processor(text, return_tensors="pt"))
    return pooled(output)


def pooled(output: object) -> Tensor:
    """The mean over a sentence's tokens, which is what the encoder was trained with."""
    return output.last_hidden_state[0].mean(0)  # type: ignore[attr-defined]


def similarity_to(other: Tensor) -> Callable[[object], Tensor]:
    def similarity(output: object) -> Tensor:
        return torch.cosine_similarity(pooled(output), other, dim=0)

    return similarity
