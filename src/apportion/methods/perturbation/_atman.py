"""AtMan: the drop of the target when attention to one token is suppressed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from apportion.core import AnyFeatures, ApportionError, progress
from apportion.games import Players, players_of, to_features
from apportion.games.maskers import layers_without_attention, patch_sequence, whole_patches
from apportion.methods._method import Method, Shares
from apportion.methods._registry import perturbation_method
from apportion.models.anatomy import Heads, attention_through, in_evaluation
from apportion.models.inputs import Prompt
from apportion.relevance import token_embedding
from apportion.task import TOKENS_AT_ONCE, AttributionTask, Variant, tokens_of

#: For each input of tokens or patches, the factors of each key's attention scores: (variants, keys).
Factors = Mapping[str, Tensor]


@perturbation_method("atman", conserves="no", cost="n forward", source="Deiseroth et al. 2023, arXiv 2301.08110")
@dataclass(frozen=True, kw_only=True)
class AtMan(Method):
    r"""The drop of the target when attention to a player is suppressed, in the target's unit.

    In every layer and head the scores before the softmax are multiplied, in the column of the suppressed token $k$, by
    $1 - f$; its share is the target's value less the value under this suppression. With `similarity`, tokens with
    embeddings similar to that of $k$ are suppressed with it, by $1 - f s$ with their cosine $s$. Features that are
    always present get exactly 0. For images it supports plain stacks of patches, such as ViT, DINOv2 and both sides of
    CLIP; there, whole patches are suppressed.

    Args:
        suppression: The factor $f$, above 0 and at most 1.
        similarity: The least cosine of embeddings at which tokens are suppressed together, above 0 and at most 1 (the
            paper's κ; it uses 0.7 for images); None suppresses each token alone.
        features: The players, as for leave-one-out.

    Source:
        Deiseroth et al. 2023, arXiv 2301.08110, sec. 3. The paper's influence is the change of the answer's
        cross-entropy, which is this score for a `Span` or the unit `"log-probability"`. As there, a score below 0
        before the softmax is raised, not lowered, by its factor (the authors' code can shift scores first).
    """

    suppression: float = 0.9
    similarity: float | None = None
    features: AnyFeatures = "tokens"

    def __post_init__(self) -> None:
        for name, value in (("suppression", self.suppression), ("similarity", self.similarity)):
            if value is not None and not 0 < value <= 1:
                raise ApportionError(f"{name}={value} is not possible; give a number above 0 and at most 1.")

    def attribute(self, task: AttributionTask) -> Shares:
        """Suppress each player in turn."""
        kinds = layers_without_attention(task.head.model)
        if kinds:
            raise ApportionError(
                f"{type(task.head.model).__name__} has layers of {', '.join(kinds)}, past which atman cannot "
                "suppress a token; leave-one-out and occlusion fit."
            )
        scores, features = [], []
        for example in range(len(task.prompts)):
            players = players_of(task, example, self.features)
            values = _suppressed(task, example, self._factors(task, example, players))
            full = torch.tensor(task.target_values.values[example], dtype=torch.float64)
            scores.append(to_features(players, full - values))
            features.append(players.features)
        return Shares(scores=scores, features=None if self.features in ("tokens", "patches") else features)

    def _factors(self, task: AttributionTask, example: int, players: Players) -> Factors:
        prompt = task.prompts[example]
        similarities = self._similarities(task.head.model, prompt)
        together = torch.stack([similarities[list(group)].amax(0) for group in players.groups])
        pieces = (1 - self.suppression * together[:, prompt.before_tokens :]).split(list(prompt.parts.values()), 1)
        factors = dict(zip(prompt.parts, pieces, strict=True))
        if prompt.continuous_inputs:
            name, of_patches = self._of_patches(task, example, together[:, : prompt.before_tokens])
            factors[name] = of_patches
        return factors

    def _of_patches(
        self, task: AttributionTask, example: int, together: Float[Tensor, "players features"]
    ) -> tuple[str, Float[Tensor, "players keys"]]:
        """The factors of a vision transformer's keys; 1 for the tokens before its patches."""
        sequence, continuous = patch_sequence(task, example, "atman")
        there = torch.stack([whole_patches(task, example, continuous, row == 0) for row in together])
        before = torch.ones(len(there), sequence.before, dtype=torch.float64)
        return continuous.name, torch.cat([before, 1 - self.suppression * (~there).double()], 1)

    def _similarities(self, model: nn.Module, prompt: Prompt) -> Float[Tensor, "features features"]:
        """How much each feature is suppressed together with each other, from 0 to 1."""
        alone = torch.eye(len(prompt.features), dtype=torch.float64)
        if self.similarity is None:
            return alone
        if prompt.continuous_inputs:
            raise ApportionError("`similarity` compares embeddings of tokens; leave it out for prompts with images.")
        module = token_embedding(model)
        rows = []
        for part in prompt.parts:
            given = prompt.inputs[part]
            if not given.is_floating_point():
                if module is None:
                    raise ApportionError(
                        f"{type(model).__name__} does not tell its token embedding; leave out `similarity`."
                    )
                with torch.no_grad():
                    given = module(given)
            rows.append(given[0].detach().double().cpu())
        directions = nn.functional.normalize(torch.cat(rows), dim=-1)
        cosines = (directions @ directions.T).clamp(-1, 1)
        return torch.where(cosines >= self.similarity, cosines, 0).maximum(alone)


def _suppressed(task: AttributionTask, example: int, factors: Factors) -> Float[Tensor, "variants targets"]:
    """The targets' values for each variant, with each key's scores multiplied by its factors."""
    prompt, rows = task.prompts[example], task.rows[example]
    parts = _parts_of_keys(task, example, {part: of_part.shape[1] for part, of_part in factors.items()})
    with attention_through(task.head.model, _plain):
        (own,) = task.evaluate(example, [Variant(prompt, rows)])
    _check_same(own, task, example)
    count = max(1, TOKENS_AT_ONCE // tokens_of(prompt))
    if not all(target.names_outputs for target in task.targets):
        count = 1  # a function of the whole output is read one prompt at a time
    firsts = range(0, len(next(iter(factors.values()))), count)
    found = []
    for first in progress(firsts, "atman", show=task.progress and len(firsts) > 8):
        some = {part: of_part[first : first + count] for part, of_part in factors.items()}

        def attend(heads: Heads, some: Factors = some) -> tuple[Tensor, Tensor | None]:
            keep = some[parts[heads.module]].to(heads.query)
            return heads.mixed(heads.probabilities(heads.scores() * keep[:, None, None, :])), None

        with attention_through(task.head.model, attend):
            found.append(task.evaluate(example, [Variant(prompt, rows)] * len(next(iter(some.values())))))
    return torch.cat(found)


def _plain(heads: Heads) -> tuple[Tensor, Tensor | None]:
    return heads.mixed(heads.probabilities()), None


def _parts_of_keys(
    task: AttributionTask, example: int, lengths: Mapping[str, int] | None = None
) -> dict[nn.Module, str]:
    """For each attention the input whose tokens or patches are its keys."""
    prompt = task.prompts[example]
    inputs = {**task.single(example).inputs}
    lengths = dict(prompt.parts if lengths is None else lengths)
    if len(set(lengths.values())) < len(lengths):
        # One more token in the decoder, so that its length differs from the source's.
        last = list(prompt.parts)[-1]  # also if there are as many patches as tokens
        longer = _with_one_more(prompt, last)
        inputs, lengths[last] = {**inputs, **longer.inputs}, lengths[last] + 1
    calls: dict[nn.Module, int] = {}

    def attend(heads: Heads) -> tuple[Tensor, Tensor | None]:
        calls[heads.module] = heads.key.shape[2]
        return _plain(heads)

    with attention_through(task.head.model, attend), in_evaluation(task.head.model), torch.no_grad():
        task.head.model(**inputs)
    task.passes.forward += 1
    by_length = {length: part for part, length in lengths.items()}
    for module, length in calls.items():
        if length not in by_length:
            raise ApportionError(
                f"{type(module).__name__} has {length} keys for {prompt.length} tokens, so atman cannot tell whose "
                "they are; leave-one-out and occlusion fit."
            )
    return {module: by_length[length] for module, length in calls.items()}


def _with_one_more(prompt: Prompt, part: str) -> Prompt:
    prefix, length = part.partition("input")[0], prompt.parts[part]
    inputs: dict[str, Any] = dict(prompt.inputs)
    for name, value in prompt.inputs.items():
        same = name.startswith(prefix) and isinstance(value, Tensor) and value.ndim >= 2
        if same and value.shape[1] == length:
            inputs[name] = torch.cat([value, value[:, -1:]], 1)
    return replace(prompt, inputs=inputs)


def _check_same(own: Float[Tensor, " targets"], task: AttributionTask, example: int) -> None:
    known = torch.tensor(task.target_values.values[example], dtype=torch.float64)
    dtype = next((p.dtype for p in task.head.model.parameters() if p.is_floating_point()), torch.float32)
    if bool(((own - known).abs() > torch.finfo(dtype).eps ** 0.5 * (1 + known.abs())).any()):
        raise ApportionError(
            f"{type(task.head.model).__name__} computes its attention in a way that atman does not reproduce "
            f"(target {own[0]:.6g} instead of {known[0]:.6g}); leave-one-out and occlusion fit."
        )
