"""Image maskers: how absent patches, pixels or regions of an image are hidden from the model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.games.maskers._masker import Masker, register_masker
from apportion.games.maskers._visual_token_masker import DimmedTokens
from apportion.models.inputs import ContinuousInput, Layout, layout_of
from apportion.relevance import NAME as VISUAL_TOKENS
from apportion.task import AttributionTask, Variant

#: Lengths in options are for images with this side, in pixels; they are scaled with the image.
SIDE = 224

#: The tolerance of inpainting, relative to the root of the dtype's rounding error.
_SOLVED = 0.1


class ImageMasker(Masker):
    """A way to hide features of images; a subclass implements `changed`."""

    def variant(self, task: AttributionTask, example: int, present: Bool[Tensor, " features"]) -> Variant:
        """The prompt with some features of its images hidden.

        Raises:
            ApportionError: A token is absent too, which needs a masker for text as well.
        """
        prompt = task.prompts[example]
        if not bool(present[prompt.before_tokens :].all()):
            raise ApportionError(
                f"the masker {self.name!r} is for images and a token is absent too; name both: 'delete+{self.name}'."
            )
        return self.changed(task, example, Variant(prompt, task.rows[example]), present)

    @abstractmethod
    def changed(
        self, task: AttributionTask, example: int, variant: Variant, present: Bool[Tensor, " features"]
    ) -> Variant:
        """A variant with its absent parts of images hidden as well.

        Args:
            task: The task, with its prompts.
            example: The index of the prompt.
            variant: A variant of that prompt, whose tokens may have been changed already.
            present: For each feature of the prompt, those of the images first, whether it is present.
        """


class Filled(ImageMasker):
    """Replaces absent pixels in the model's own normalised input; a subclass implements `stand_in`."""

    def changed(
        self, task: AttributionTask, example: int, variant: Variant, present: Bool[Tensor, " features"]
    ) -> Variant:
        """The variant with its absent pixels replaced."""
        inputs, at, change = dict(variant.prompt.inputs), 0, variant.change
        for continuous in task.prompts[example].continuous_inputs:
            mine, at = present[at : at + continuous.count], at + continuous.count
            if bool(mine.all()):
                continue
            if continuous.name == VISUAL_TOKENS:
                change = self.dimmed(continuous.present(mine)[:, 0])
                continue
            value = inputs[continuous.name]
            there = continuous.present(mine).to(value.device).expand(value.shape)
            inputs[continuous.name] = torch.where(there, value, self.stand_in(task, example, continuous, there))
        return replace(variant, prompt=replace(variant.prompt, inputs=inputs), change=change)

    @abstractmethod
    def stand_in(
        self, task: AttributionTask, example: int, continuous: ContinuousInput, there: Bool[Tensor, "*axes"]
    ) -> Float[Tensor, "*axes"]:
        """The values for absent pixels, in the input's shape; its values at present pixels are not used.

        Args:
            task: The task, with its prompts.
            example: The index of the prompt.
            continuous: Which of its inputs.
            there: For each element whether it is present.
        """

    def dimmed(self, there: Bool[Tensor, " tokens"]) -> DimmedTokens:
        """The change of visual tokens, if these rather than pixels are absent.

        Raises:
            ApportionError: This masker needs pixels.
        """
        raise ApportionError(
            f"the masker {self.name!r} needs pixels, and visual tokens have none; use masker='mean' or 'zero', or "
            "regions='patches', whose patches cover the same parts of the image."
        )


@final
@dataclass(frozen=True)
class ZeroPixels(Filled):
    """Sets absent pixels to 0 in the model's input (the mean colour of a normalising processor, else black), or the
    vectors of absent visual tokens to zeros."""

    name = "zero"

    def stand_in(
        self, task: AttributionTask, example: int, continuous: ContinuousInput, there: Bool[Tensor, "*axes"]
    ) -> Float[Tensor, "*axes"]:
        """Zeros."""
        return torch.zeros_like(task.prompts[example].inputs[continuous.name])

    def dimmed(self, there: Bool[Tensor, " tokens"]) -> DimmedTokens:
        """Zeros for absent tokens."""
        return DimmedTokens(there, mean=False)


@final
@dataclass(frozen=True)
class MeanColour(Filled):
    """Gives absent pixels the mean colour of their image, or absent visual tokens the mean of all visual tokens."""

    name = "mean"

    def stand_in(
        self, task: AttributionTask, example: int, continuous: ContinuousInput, there: Bool[Tensor, "*axes"]
    ) -> Float[Tensor, "*axes"]:
        """The mean of each image, by channel."""
        return _known(task, example, continuous, self, _means)

    def dimmed(self, there: Bool[Tensor, " tokens"]) -> DimmedTokens:
        """The mean for absent tokens."""
        return DimmedTokens(there, mean=True)


@register_masker("blur")
@final
@dataclass(frozen=True)
class Blur(Filled):
    """Replaces absent pixels by those of the image blurred with a Gaussian, which uses no pixels beyond the edges.

    Regions larger than the blur keep their colour, so they are not hidden but out of focus.

    Args:
        kernel: Width of the window in pixels of an image of 224 × 224, odd, 3 or more.
        sigma: Standard deviation of the Gaussian, in the same pixels. Both are scaled with the image's side (the root
            of height times width), to at least 3 pixels.

    Raises:
        ApportionError: `kernel` is even or below 3, or `sigma` is not above 0.
    """

    kernel: int = 51
    sigma: float = 20.0

    def __post_init__(self) -> None:
        if self.kernel < 3 or self.kernel % 2 == 0 or not self.sigma > 0:
            raise ApportionError(
                f"a blur of kernel={self.kernel} and sigma={self.sigma} is not possible; "
                "give an odd kernel of 3 or more and a sigma above 0."
            )

    @property
    def name(self) -> str:  # type: ignore[override]
        """`blur`, with its options unless they are the defaults."""
        return "blur" if self == Blur() else f"blur(kernel={self.kernel}, sigma={self.sigma})"

    def stand_in(
        self, task: AttributionTask, example: int, continuous: ContinuousInput, there: Bool[Tensor, "*axes"]
    ) -> Float[Tensor, "*axes"]:
        """The blurred image."""
        return _known(task, example, continuous, self, self._blurred)

    def _blurred(self, layout: Layout, value: Tensor) -> Tensor:
        return _as_input(layout, [self.of(image) for image in _images(layout, value)], value)

    def of(self, image: Float[Tensor, "height width channel"]) -> Float[Tensor, "height width channel"]:
        """An image blurred."""
        height, width, channels = image.shape
        scale = (height * width) ** 0.5 / SIDE
        half = max(1, round((self.kernel * scale - 1) / 2))
        offsets = torch.arange(-half, half + 1, dtype=image.dtype, device=image.device)
        weights = torch.exp(-0.5 * (offsets / (self.sigma * scale)) ** 2)
        planes = image.permute(2, 0, 1)[:, None]
        both = torch.cat([planes, torch.ones_like(planes[:1])])
        both = F.conv2d(both, weights.reshape(1, 1, -1, 1), padding=(half, 0))
        both = F.conv2d(both, weights.reshape(1, 1, 1, -1), padding=(0, half))
        # Divided by the weight of the window inside the image.
        return (both[:channels] / both[channels:])[:, 0].permute(1, 2, 0)


@register_masker("inpaint")
@final
@dataclass(frozen=True)
class Inpaint(Filled):
    r"""Fills absent pixels in from present ones: each is the weighted mean of its 8 neighbours.

    The values solve $\sum_j w_{ij} (x_i - x_j) = 0$ for every absent pixel $i$, where $w_{ij}$ is 1 for direct
    neighbours and ½ for diagonal ones; so the shape of the absent region is hardly visible. A wholly absent image is 0.

    Args:
        noise: Standard deviation of noise added to the filled pixels, in the unit of the model's input; the paper adds
            a little, so that a model cannot tell a pixel from its neighbours' mean.
        seed: Seed of the noise.

    Raises:
        ApportionError: `noise` is below 0.

    Source:
        Rong et al. 2022, arXiv 2202.00449 (noisy linear imputation).
    """

    noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.noise >= 0:
            raise ApportionError(f"noise={self.noise} is not possible; give 0 or more.")

    @property
    def name(self) -> str:  # type: ignore[override]
        """`inpaint`, with its options unless they are the defaults."""
        return "inpaint" if self == Inpaint() else f"inpaint(noise={self.noise}, seed={self.seed})"

    def stand_in(
        self, task: AttributionTask, example: int, continuous: ContinuousInput, there: Bool[Tensor, "*axes"]
    ) -> Float[Tensor, "*axes"]:
        """The image with its absent pixels filled in."""
        layout = _layout(task, example, continuous)
        value = task.prompts[example].inputs[continuous.name]
        known = layout.images(there.to(value.dtype))
        pairs = zip(_images(layout, value), known, strict=True)
        return _as_input(layout, [self.of(image, present[..., 0] > 0) for image, present in pairs], value)

    def of(
        self, image: Float[Tensor, "height width channel"], there: Bool[Tensor, "height width"]
    ) -> Float[Tensor, "height width channel"]:
        """An image with its absent pixels filled in."""
        gaps = ~there[..., None]
        if not bool(there.any()):
            filled = torch.zeros_like(image)
        elif bool(there.all()):
            return image
        else:
            # Only the frame around the absent pixels matters.
            down, across = (_around(gaps.any(1 - axis)[:, 0]) for axis in (0, 1))
            filled = image.clone()
            filled[down, across] = _solved(torch.where(gaps, 0, image)[down, across], gaps[down, across])
        if self.noise:
            generator = torch.Generator().manual_seed(self.seed)
            drawn = torch.randn(image.shape, generator=generator, dtype=torch.float64)
            filled = filled + self.noise * drawn.to(image)
        return torch.where(gaps, filled, image)


def _around(gaps: Bool[Tensor, " line"]) -> slice:
    """From one before the first gap to one after the last."""
    places = gaps.nonzero().flatten()
    return slice(max(0, int(places[0]) - 1), int(places[-1]) + 2)


def _solved(
    known: Float[Tensor, "height width channel"], gaps: Bool[Tensor, "height width 1"]
) -> Float[Tensor, "height width channel"]:
    """The image with each gap filled by its neighbours' weighted mean, by conjugate gradients for all channels."""
    inside = torch.where(gaps, 1.0, 0.0).to(known)
    degree = _sums(torch.ones_like(inside))

    def pull(x: Tensor) -> Tensor:
        return inside * (degree * x - _sums(x))

    start = inside * known[gaps.expand_as(known).logical_not()].reshape(-1, known.shape[-1]).mean(0)
    residual = inside * _sums(known) - pull(start)
    x, direction = start, residual
    square = (residual**2).sum((0, 1))
    enough = square * torch.finfo(known.dtype).eps * _SOLVED**2
    for _ in range(4 * int(sum(known.shape[:2])) + 50):
        if bool((square <= enough).all()):
            break
        pulled = pull(direction)
        step = square / (direction * pulled).sum((0, 1)).clamp_min(torch.finfo(known.dtype).tiny)
        x, residual = x + step * direction, residual - step * pulled
        before, square = square, (residual**2).sum((0, 1))
        direction = residual + square / before.clamp_min(torch.finfo(known.dtype).tiny) * direction
    return known + x


def _sums(image: Float[Tensor, "height width channel"]) -> Float[Tensor, "height width channel"]:
    """Each pixel's weighted sum of its neighbours within the image."""
    weights = torch.tensor([[0.5, 1.0, 0.5], [1.0, 0.0, 1.0], [0.5, 1.0, 0.5]]).to(image)
    return F.conv2d(image.permute(2, 0, 1)[:, None], weights[None, None], padding=1)[:, 0].permute(1, 2, 0)


#: For each task, so that an image is blurred once, not once per variant.
_FOUND: WeakKeyDictionary[AttributionTask, dict[tuple[int, str, Masker | None], Tensor | Layout]] = WeakKeyDictionary()


def _known(task: AttributionTask, example: int, continuous: ContinuousInput, masker: Masker, find: object) -> Tensor:
    """A replacement that does not depend on which pixels are absent, computed once per task."""
    known = _FOUND.setdefault(task, {})
    key = (example, continuous.name, masker)
    if key not in known:
        value = task.prompts[example].inputs[continuous.name].detach()
        assert callable(find)
        known[key] = find(_layout(task, example, continuous), value)
    found = known[key]
    assert isinstance(found, Tensor)
    return found


def _layout(task: AttributionTask, example: int, continuous: ContinuousInput) -> Layout:
    known = _FOUND.setdefault(task, {})
    key = (example, continuous.name, None)
    if key not in known:
        known[key] = layout_of(task.head.model, continuous.name, dict(task.prompts[example].inputs))
    found = known[key]
    assert isinstance(found, Layout)
    return found


def _images(layout: Layout, value: Tensor) -> list[Tensor]:
    """The images in an input, from which it can be rebuilt.

    Raises:
        ApportionError: Several elements belong to one pixel, as in the frames of a film.
    """
    images = layout.images(value)
    if not torch.equal(_as_input(layout, images, value), value):
        raise ApportionError(
            "several elements of this input belong to one pixel, as in films, so it cannot be changed as an image; "
            "use masker='mean' or 'zero'."
        )
    return images


def _as_input(layout: Layout, images: Sequence[Tensor], value: Tensor) -> Tensor:
    """Images in the form of the model's input, with padding as in `value`."""
    pixels = torch.cat([image.flatten(0, 1) for image in images])
    place, channel = (index.to(value.device).expand(value.shape) for index in (layout.place, layout.channel))
    return torch.where(place >= 0, pixels[place.clamp_min(0), channel], value)


def _means(layout: Layout, value: Tensor) -> Tensor:
    """The mean over all elements of each image and channel, in the input's shape."""
    place, channel = (index.to(value.device).expand(value.shape).flatten() for index in (layout.place, layout.channel))
    ends = torch.tensor([height * width for height, width in layout.sizes], device=value.device).cumsum(0)
    channels = int(channel.max()) + 1
    group = torch.bucketize(place, ends, right=True).clamp_max(len(ends) - 1) * channels + channel
    inside = (place >= 0).to(value)
    sums = value.new_zeros(len(ends) * channels, 2)
    sums.index_add_(0, group, torch.stack([value.flatten() * inside, inside], 1))
    return (sums[:, 0] / sums[:, 1].clamp_min(1))[group].reshape(value.shape)
