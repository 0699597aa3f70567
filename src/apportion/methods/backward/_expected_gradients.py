"""Expected gradients: integrated gradients averaged over random baselines, one point on each line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from apportion.core import ApportionError
from apportion.methods._method import OneByOne, Shares
from apportion.methods._registry import backward_method
from apportion.methods.backward._baseline import layout_at, refilled
from apportion.methods.backward._counts import check_batch_size, check_count
from apportion.methods.backward._neighbourhood import Neighbourhood, Place, Point
from apportion.models.inputs import token_prompts
from apportion.task import AttributionTask


@backward_method(
    "expected-gradients",
    conserves="with a remainder",
    cost="65 forward, 32 backward (samples=32)",
    source="Erion et al. 2021, arXiv 1906.10670",
)
@dataclass(frozen=True, kw_only=True)
class ExpectedGradients(OneByOne):
    r"""Divide the target's difference to its mean at references, by gradients on the lines between (GradientSHAP).

    $R_i = E_{x' \sim D,\, \alpha \sim U(0, 1)}[(x_i - x'_i) \cdot \nabla_i f(x' + \alpha (x - x'))]$, summed over the
    dimensions of token i's embedding, or over the elements of region i of an image. In the ledger $f(x)$ = tokens (or
    image) + mean target at the references + sampling gap, where the gap is the sampling error; it shrinks with the
    square root of the number of samples.

    Args:
        samples: Draws of a reference and an $\alpha$, at least 2.
        references: The texts or lists of token ids that $x'$ is drawn from, at least as long as the prompt; their first
            tokens are used, as many as the prompt has. By default each place gets the embedding of a token drawn
            uniformly from the vocabulary. Each pixel of an image gets the colours of a random pixel of the same image;
            reference images are not supported.
        seed: Of the draws.
        batch_size: How many samples run as one batch; by default enough for about 2,000 tokens.

    Raises:
        ApportionError: An option does not fit, or a reference is shorter than the prompt.

    Source:
        Erion et al. 2021, arXiv 1906.10670, eq. 3.
    """

    samples: int = 32
    references: Sequence[str] | Sequence[Sequence[int]] | None = None
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_count("samples", self.samples, least=2)
        check_count("seed", self.seed, least=0)
        check_batch_size(self.batch_size)
        if self.references is not None:
            object.__setattr__(self, "references", _checked(self.references))

    def alone(self, task: AttributionTask) -> Shares:
        """Average over samples, which share forward passes for all targets."""
        near = Neighbourhood(task, batch_size=self.batch_size, doing="expecting gradients")
        generator = torch.Generator().manual_seed(self.seed)
        tokens = self._drawn(near, generator)
        alphas = torch.rand(self.samples, generator=generator).tolist()
        seeds = torch.randint(2**31, (self.samples,), generator=generator)

        def reference(sample: int) -> Point:
            return {
                place: near.embeddings(place, tokens[place[1]][sample, : x.shape[:-1].numel()]).reshape(x.shape)
                if near.continuous(place) is None
                else mixed(near, place, int(seeds[sample]))
                for place, x in near.here.items()
            }

        def between(sample: int) -> Point:
            return {place: x + alphas[sample] * (near.here[place] - x) for place, x in reference(sample).items()}

        by_sample = []
        for sample, gradients in enumerate(near.derivatives(self.samples, between)):
            start = reference(sample)
            by_sample.append(
                near.shares({place: (x - start[place]) * gradients[place] for place, x in near.here.items()})
            )
        each = torch.stack(by_sample)
        scores, errors = each.mean(0), each.std(0) / self.samples**0.5
        elsewhere = near.values(self.samples, reference).mean(0)
        ledger = near.ledger(scores, elsewhere, name="mean target at the references", gap="sampling gap")
        return Shares(scores=[scores], standard_errors=[errors], ledger=ledger)

    def _drawn(self, near: Neighbourhood, generator: torch.Generator) -> dict[str, Int[Tensor, "sample place"]]:
        """For each input of the model, the tokens at whose embeddings each sample starts."""
        if self.references is not None:
            return self._from_references(near, self.references, generator)
        drawn = {}
        for name in near.task.prompts[0].parts:
            here = {place: x for place, x in near.here.items() if place[1] == name}
            tokens = min(near.known(place) for place in here)
            count = max(x.shape[:-1].numel() for x in here.values())
            drawn[name] = torch.randint(tokens, (self.samples, count), generator=generator)
        return drawn

    def _from_references(
        self, near: Neighbourhood, references: Sequence[str] | Sequence[Sequence[int]], generator: torch.Generator
    ) -> dict[str, Int[Tensor, "sample place"]]:
        (prompt,) = near.task.prompts
        if prompt.continuous_inputs:
            raise ApportionError(
                "references are texts or lists of token ids, and this prompt has an image; leave them out, so that "
                "colours are drawn from its own."
            )
        if len(prompt.parts) > 1:
            raise ApportionError(
                f"references stand for one text, but this model reads {' and '.join(prompt.parts)}; leave them out, so "
                "that both are drawn from the vocabulary."
            )
        (name,) = prompt.parts
        if any(x.shape[:-1].numel() != prompt.length for x in near.here.values()):
            raise ApportionError(
                "the model pads the prompt itself, so references cannot be lined up with it; leave them out."
            )
        rows = [self._ids(near, reference, prompt.length) for reference in references]
        chosen = torch.randint(len(rows), (self.samples,), generator=generator)
        return {name: torch.stack(rows)[chosen]}

    def _ids(self, near: Neighbourhood, reference: str | Sequence[int], length: int) -> Int[Tensor, " place"]:
        """A reference's first tokens, as many as the prompt has."""
        (prompt,) = token_prompts(
            reference if isinstance(reference, str) else list(reference), near.task.head.processor
        )
        ids, known = prompt.ids, min(near.known(place) for place in near.here)
        if len(ids) < length:
            raise ApportionError(
                f"the reference {reference!r} has {len(ids)} tokens and the prompt {length}; give one at least as long."
            )
        if not 0 <= min(ids) <= max(ids) < known:
            raise ApportionError(f"the reference {reference!r} has tokens outside the vocabulary (0 to {known - 1}).")
        return torch.tensor(ids[:length])


def mixed(near: Neighbourhood, place: Place, seed: int) -> Tensor:
    """A continuous input whose pixels have the colours of random pixels of the same image, with replacement."""
    layout, value = layout_at(near, place), near.here[place]
    generator = torch.Generator().manual_seed(seed)
    images = []
    for image in layout.images(value):
        pixels = image.flatten(0, 1)
        drawn = torch.randint(len(pixels), (len(pixels),), generator=generator)
        images.append(pixels[drawn.to(pixels.device)].reshape(image.shape))
    return refilled(layout, images, value)


def _checked(references: Sequence[str] | Sequence[Sequence[int]]) -> tuple[str, ...] | tuple[tuple[int, ...], ...]:
    """References as tuples, checked to be a list of texts or of lists of ids."""
    wrong = f"references={references!r} are not known; give a list of texts, or of lists of token ids."
    if isinstance(references, str) or not isinstance(references, Sequence) or not references:
        raise ApportionError(wrong)
    if all(isinstance(one, str) for one in references):
        return tuple(str(one) for one in references)
    if any(isinstance(one, str) or not isinstance(one, Sequence) or not one for one in references):
        raise ApportionError(wrong)
    ids = tuple(tuple(token for token in one if isinstance(token, int)) for one in references)
    if any(len(mine) < len(one) for mine, one in zip(ids, references, strict=True)):
        raise ApportionError(wrong)
    return ids
