"""Absence: how players are made absent where the user leaves that open."""

from __future__ import annotations

import torch

from apportion.core import ApportionError
from apportion.games import AnyMasker, Delete, Masker, MeanEmbedding, as_masker, in_prompt
from apportion.metagame._attribution_payoff import scores_of_variants
from apportion.methods import Method
from apportion.task import AttributionTask


def masker_of(task: AttributionTask, method: Method, masker: AnyMasker) -> Masker:
    """The masker of a metagame.

    Left open, it is that of a method which makes features absent itself; the token for it, where the tokenizer has one;
    the mean embedding, where the model and the method read embeddings and find in them what they find in token ids;
    and deletion otherwise. Deletion moves what follows up: without the first word another one begins the text, and
    models of text read whoever is first otherwise (docs/studies/metagame.md).

    Args:
        task: About one prompt.
        method: The first-order method.
        masker: `"auto"` leaves it open.

    Raises:
        ApportionError: There is no such masker, or it does not fit the prompt.
    """
    if masker != "auto":
        return in_prompt(as_masker(masker), task)
    usual = in_prompt(as_masker(getattr(method, "masker", "auto")), task)
    if hasattr(method, "masker") or not isinstance(usual, Delete):
        return usual
    return MeanEmbedding() if _follows(task, method) else usual


def _follows(task: AttributionTask, method: Method) -> bool:
    """Whether a prompt given as embeddings has the attributions that it has as token ids."""
    everyone = torch.ones(len(task.prompts[0].features), dtype=torch.bool)
    model = task.head.model
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    try:
        variant = MeanEmbedding().variant(task, 0, everyone)
        found = scores_of_variants(task, method, [variant])[0]
        known = method.attribute(task).scores[0]
    except (ApportionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return False
    known = known.detach().double().cpu()
    off = (found - known).abs().max() if found.shape == known.shape else torch.tensor(torch.inf)
    return bool(off <= torch.finfo(dtype).eps ** 0.5 * (1 + known.abs().max()))
