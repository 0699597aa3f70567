"""Shift averaging: any method's scores as their mean over small translations of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from apportion.core import ApportionError, Feature, Ledger
from apportion.methods._as_method import AnyMethod, as_method
from apportion.methods._default import default_method
from apportion.methods._method import Method, OneByOne, Shares
from apportion.methods._registry import backward_method
from apportion.methods.backward import check_count
from apportion.models.inputs import ContinuousInput, Prompt
from apportion.task import AttributionTask

#: The line of the ledger for the mean change of the target when the image is shifted.
CHANGE = "change by shifting"


@backward_method(
    "shifted",
    conserves="with a remainder",
    cost="count × the method's",
    source="averaging as in Smilkov et al. 2017, arXiv 1706.03825, over shifts",
)
@dataclass(frozen=True)
class Shifted(OneByOne):
    """Another method's scores, averaged over translations of the image by a few pixels.

    The patch grid cuts an image at arbitrary places. Each shift moves the image under the grid and repeats its edge to
    fill the gap. A region's score follows its content: pixels keep their region when they move. Forward methods score
    patches; a patch's score is first divided evenly among its pixels.

    The target is the class given, or the most likely one without a shift. If the method keeps a ledger, its lines are
    means over the shifts, and the target's mean change is a separate line, so that the ledger balances against the
    unshifted target. Standard errors are those of the mean over random shifts.

    Args:
        method: A method, its name, with options if wanted, or a composite; by default the model's default method.
        pixels: The largest shift, down and across; by default half a patch.
        count: How many shifts are drawn, at least 2, without repetition; the zero shift may be one of them.
        seed: Of the draws.

    Raises:
        ApportionError: An option does not fit, or the prompt is not a single image of rows and columns of pixels.

    Source:
        Ours; averaging over shifts as SmoothGrad averages over noise.
    """

    method: AnyMethod | None = None
    pixels: int | None = field(default=None, kw_only=True)
    count: int = field(default=9, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        check_count("count", self.count, least=2)
        check_count("seed", self.seed, least=0)
        if self.pixels is not None:
            check_count("pixels", self.pixels, least=1)
        if self.method is None:
            return
        inner = as_method(self.method)
        if isinstance(inner, Shifted):
            raise ApportionError("shifted averages a method over shifts already; give it another method, or a count.")
        object.__setattr__(self, "method", inner)
        kept = inner.about.conserves
        about = replace(type(self).about, conserves="no" if kept == "no" else "with a remainder")
        object.__setattr__(self, "about", about)

    @property
    def options(self) -> Mapping[str, Any]:
        """The method and its options, and the shifts."""
        inner = self.method
        of = {"method": inner.name, "of": dict(inner.options)} if isinstance(inner, Method) else {"method": None}
        return {**of, "pixels": self.pixels, "count": self.count, "seed": self.seed}

    def alone(self, task: AttributionTask) -> Shares:
        """Average over the shifts."""
        prompt = task.prompts[0]
        continuous = _the_image(prompt)
        inner = self.method if isinstance(self.method, Method) else default_method(task.head.model, pixels=True)
        pixels = _half_a_patch(continuous) if self.pixels is None else self.pixels
        if pixels >= min(continuous.owner.shape[-2:]):
            raise ApportionError(
                f"pixels={pixels} would move the image out of its {continuous.owner.shape[-2]} rows and "
                f"{continuous.owner.shape[-1]} columns; give fewer."
            )
        found = [_at_shift(task, inner, continuous, offset) for offset in self._offsets(pixels)]
        if any(shares.features is not None for shares in found):
            raise ApportionError(f"{inner.name} divides among parts of its own, which shifts cannot be averaged over.")
        scores = torch.stack([shares.scores[0] for shares in found])
        positions = [None if shares.position_scores is None else shares.position_scores[0] for shares in found]
        kept = [position for position in positions if position is not None]
        return Shares(
            scores=[scores.mean(0)],
            position_scores=[torch.stack(kept).mean(0)] if len(kept) == len(found) else None,
            standard_errors=[scores.std(0) / len(scores) ** 0.5],
            ledger=_mean_ledger([shares.ledger for shares in found], task),
            options={"method": inner.name, "pixels": pixels},
        )

    def _offsets(self, pixels: int) -> list[tuple[int, int]]:
        side = 2 * pixels + 1
        if self.count > side * side:
            raise ApportionError(
                f"count={self.count} is too many: there are {side * side} shifts of at most {pixels} pixels."
            )
        drawn = torch.randperm(side * side, generator=torch.Generator().manual_seed(self.seed))[: self.count]
        return [(number // side - pixels, number % side - pixels) for number in drawn.tolist()]


def _the_image(prompt: Prompt) -> ContinuousInput:
    """The one image of a prompt, in rows and columns."""
    continuous = prompt.continuous_inputs[0] if len(prompt.continuous_inputs) == 1 else None
    value = None if continuous is None else prompt.inputs.get(continuous.name)
    if continuous is None or value is None or value.ndim != 4 or len(value) != 1:
        held = "no image" if not prompt.continuous_inputs else "another"
        held = held if value is None else f"one of {tuple(value.shape)}"
        raise ApportionError(
            "shifted moves one image of shape (1, channel, height, width) down to its pixels, and this prompt has "
            f"{held}; use the method itself."
        )
    return replace(continuous, owner=continuous.owner.expand(1, 1, *value.shape[2:]))


def _half_a_patch(continuous: ContinuousInput) -> int:
    if continuous.patches is None:
        raise ApportionError("the model's patch size is unknown; say how far to shift, such as pixels=8.")
    height, width = continuous.owner.shape[-2:]
    return max(1, min(height // continuous.patches[0], width // continuous.patches[1]) // 2)


def _at_shift(task: AttributionTask, inner: Method, continuous: ContinuousInput, offset: tuple[int, int]) -> Shares:
    """The method's shares for the image moved by so many rows and columns, by the features of the unmoved image."""
    prompt = task.prompts[0]
    moved = replace(continuous, owner=_moved(continuous.owner, offset))
    # Forward methods know only the model's own patches.
    of_patches = inner.about.family == "forward"
    read = _in_patches(continuous) if of_patches else moved
    inputs = {**prompt.inputs, continuous.name: _moved(prompt.inputs[continuous.name], offset)}
    features = (*read.features, *prompt.features[continuous.count :])
    shifted = replace(prompt, inputs=inputs, continuous_inputs=(read,), features=features)
    asked = AttributionTask(task.head, [shifted], task.resolved[0], detail=inner.detail, rows=task.rows)
    asked.passes, asked.summands, asked.last_method = task.passes, inner.summands, True
    shares = inner.attribute(asked)
    if not of_patches:
        return shares
    return replace(shares, scores=[_by_region(shares.scores[0], read, moved)], position_scores=None)


def _moved(image: Tensor, offset: tuple[int, int]) -> Tensor:
    """An image moved down and across, with its edge repeated to fill the gap."""
    (down, across), (height, width) = offset, image.shape[-2:]
    rows = (torch.arange(height, device=image.device) - down).clamp(0, height - 1)
    columns = (torch.arange(width, device=image.device) - across).clamp(0, width - 1)
    return image[..., rows[:, None], columns]


def _in_patches(continuous: ContinuousInput) -> ContinuousInput:
    """The same image, divided into the model's own patches."""
    if continuous.patches is None:
        raise ApportionError("the model's patch grid is unknown, so a forward method cannot be laid over the image.")
    (rows, columns), (height, width) = continuous.patches, continuous.owner.shape[-2:]
    row, column = torch.arange(height) // (height // rows), torch.arange(width) // (width // columns)
    owner: Int[Tensor, "height width"] = row[:, None] * columns + column
    owner = torch.where((row[:, None] < rows) & (column < columns), owner, -1)
    features = tuple(Feature(label=f"patch {n}", kind="patch", part="image", image=0) for n in range(rows * columns))
    return replace(continuous, owner=owner[None, None], features=features)


def _by_region(
    scores: Float[Tensor, "targets found"], patches: ContinuousInput, regions: ContinuousInput
) -> Float[Tensor, "targets features"]:
    """Scores of patches, divided evenly among their pixels, summed by region."""
    of_patches, rest = scores[:, : patches.count], scores[:, patches.count :]
    sizes = patches.owner[patches.owner >= 0].bincount(minlength=patches.count)
    padded = torch.cat([of_patches / sizes, of_patches.new_zeros(len(scores), 1)], 1)
    return torch.cat([regions.summed(padded[:, patches.owner]), rest], 1)


def _mean_ledger(ledgers: Sequence[Ledger | None], task: AttributionTask) -> Ledger | None:
    """The mean of several ledgers, with the target's mean change as a line."""
    kept = [ledger for ledger in ledgers if ledger is not None]
    if len(kept) < len(ledgers):
        return None
    total = torch.tensor(task.target_values.values[0], dtype=torch.float64)
    mean = sum((ledger.total for ledger in kept), torch.zeros_like(total)) / len(kept)
    lines = _means([ledger.lines for ledger in kept])
    details = {line: _means([ledger.details.get(line, {}) for ledger in kept]) for line in lines}
    details = {line: entries for line, entries in details.items() if entries}
    return Ledger(total=total, lines={**lines, CHANGE: total - mean}, details=details)


def _means(accounts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Amounts by name, averaged; missing ones count as 0."""
    names = dict.fromkeys(name for entries in accounts for name in entries)
    found = {name: [entries[name] for entries in accounts if name in entries] for name in names}
    return {name: torch.stack(amounts).sum(0) / len(accounts) for name, amounts in found.items()}
