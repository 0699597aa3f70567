"""Absence: the default masker of a metagame."""

from __future__ import annotations

import torch

from apportion.core import ApportionError
from apportion.games import AnyMasker, Delete, Masker, MeanEmbedding, as_masker, in_prompt
from apportion.metagame._attribution_payoff import scores_of_variants
from apportion.methods import Method
from apportion.task import AttributionTask


def masker_of(task: AttributionTask, method: Method, masker: AnyMasker) -> Masker:
    """The masker of a metagame.

    `"auto"` is, in this order: the masker of a method that removes features itself; the tokenizer's mask token; the
    mean embedding, if the method attributes the same to the prompt given as embeddings; else deletion. Deletion shifts
    the tokens that follow: without the first word another one begins the text, and language models treat the first
    token differently (docs/studies/metagame.md).

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
    """Whether a prompt given as embeddings has the same attributions as given as token ids."""
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
