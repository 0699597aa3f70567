"""RelP: an estimate of the effect of patching in a corrupted prompt's activations, by relevance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from apportion.core import ApportionError
from apportion.methods._method import OneByOne, Shares
from apportion.methods._registry import backward_method
from apportion.methods.backward._tokens import shares_of_tokens
from apportion.models.inputs import Prompt, token_prompts
from apportion.relevance import RELP, Propagated, Trace, token_embedding
from apportion.task import AttributionTask


@backward_method(
    "relp", conserves="no", cost="2 forward, 1 backward", source="Rezaei Jafari et al. 2025, arXiv 2508.21258"
)
@dataclass(frozen=True, kw_only=True)
class RelP(OneByOne):
    """Relevance patching: (clean − corrupt activation) · LRP gradient, an estimate of activation patching.

    A score estimates how much the target would fall if a place's activation were that of the corrupted prompt. The
    gradient follows the rules of the paper: norms frozen, identity rule for activations, half to each side of a gated
    product, and attention weights held constant.

    Args:
        corrupt: A prompt of as many tokens, in any form that `explain` takes. Every example is compared with it, so
            explain prompts with different corruptions one at a time.
        at: `"embeddings"`, or the path of one module (or a pattern that matches only it), such as
            `"model.layers.3.mlp"`, whose output at each token is patched.

    Raises:
        ApportionError: The corrupted prompt has another number of tokens, or `at` is not one module that runs once
            and returns one vector a token.

    Source:
        Rezaei Jafari et al. 2025, arXiv 2508.21258. Their code adds 1e-6 to denominators; we need none.
    """

    corrupt: Any
    at: str = "embeddings"

    def __post_init__(self) -> None:
        if self.corrupt is None or not self.at:
            raise ApportionError(
                "relp compares the prompt with a corrupted one of as many tokens; name it: relp(corrupt='…')."
            )

    def alone(self, task: AttributionTask) -> Shares:
        """Compare the example with the corrupted prompt."""
        embedded = self.at == "embeddings"
        site = None if embedded else self.at
        corrupt = _AtSite(task, self._corrupt(task), site).trace
        clean = task if embedded else _AtSite(task, task.prompts[0], site)
        found = clean.trace.propagate(
            clean.target_values.outputs,
            clean.target_values.seeds,
            RELP,
            ledger=False,
            keep_graph=not embedded or not task.last_method,
        )
        task.passes.backward += len(task.targets)
        if embedded:
            amounts = [
                (leaf.ids, _changed(leaf.value, corrupt.leaves[name].value, found.gradients.get(name), task))
                for name, leaf in clean.trace.leaves.items()
                if leaf.role == "tokens" and leaf.ids is not None
            ]
            return Shares(scores=[shares_of_tokens(amounts, task, 0)])
        return Shares(scores=[self._at_site(found, clean.trace, corrupt, task)])

    def _at_site(self, found: Propagated, clean: Trace, corrupt: Trace, task: AttributionTask) -> Tensor:
        here, there = clean.recording.site, corrupt.recording.site
        assert here is not None
        assert there is not None
        if here.path not in found.gradients:
            raise ApportionError(
                f"no relevance reaches the output of {here.path!r}, so patching it cannot change the target; "
                "choose a module between the tokens and the target."
            )
        prompt = task.prompts[0]
        decoding = "decoder" in here.path and "decoder_input_ids" in prompt.parts
        part = "decoder_input_ids" if decoding else next(iter(prompt.parts))
        count = prompt.parts[part]
        if here.value.ndim < 3 or here.value.shape[:2] != (1, count) or there.value.shape != here.value.shape:
            raise ApportionError(
                f"{here.path!r} returns numbers of shape {tuple(here.value.shape)}, not one vector for each of the "
                f"{count} tokens; choose a module that does, such as a layer or its MLP."
            )
        amount = _changed(here.value, there.value, found.gradients[here.path], task)
        scores = amount.new_zeros(len(task.targets), len(prompt.features))
        start = sum(n for name, n in prompt.parts.items() if name != part) if decoding else 0
        scores[:, start : start + count] = amount[:, 0] if amount.ndim == 3 else amount[:, 0].flatten(2).sum(-1)
        return scores.cpu()

    def _corrupt(self, task: AttributionTask) -> Prompt:
        """The corrupted prompt, prepared as the clean one was."""
        head, clean = task.head, task.prompts[0]
        device = clean.inputs[next(iter(clean.parts))].device
        found = token_prompts(self.corrupt, head.processor)
        if len(found) != 1:
            raise ApportionError(f"relp compares with one corrupted prompt; {len(found)} were given.")
        prepared = head.prepare(found[0].to(device), task.targets)
        if dict(prepared.parts) != dict(clean.parts):
            counts = [" and ".join(map(str, prompt.parts.values())) for prompt in (prepared, clean)]
            raise ApportionError(
                f"the corrupted prompt has {counts[0]} tokens and the prompt {counts[1]}; relp compares them place by "
                "place, so give one of as many tokens."
            )
        rows = getattr(token_embedding(head.model), "weight", None)
        for name in prepared.parts:
            ids = prepared.inputs[name]
            if isinstance(rows, Tensor) and not ids.is_floating_point() and int(ids.max()) >= len(rows):
                raise ApportionError(f"token id {int(ids.max())} of the corrupted prompt is out of the vocabulary.")
        return prepared


class _AtSite(AttributionTask):
    """One example, recorded with the output of a module."""

    def __init__(self, task: AttributionTask, prompt: Prompt, site: str | None) -> None:
        super().__init__(task.head, [prompt], task.resolved[0], detail=task.detail, rows=task.rows)
        self.passes, self.site = task.passes, site

    @cached_property
    def trace(self) -> Trace:
        """The recorded forward pass."""
        return self.recorded(detail=self.detail, site=self.site)


def _changed(clean: Tensor, corrupt: Tensor, gradient: Tensor | None, task: AttributionTask) -> Tensor:
    """(clean − corrupt) · gradient, summed over the last axis, with an axis of targets in front."""
    wide = torch.promote_types(clean.dtype, torch.float32)
    if gradient is None:
        return torch.zeros(len(task.targets), *clean.shape[:-1], dtype=wide, device=clean.device)
    return ((clean.to(wide) - corrupt.to(wide)) * gradient.to(wide)).sum(-1)
