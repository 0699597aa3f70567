"""One denoising step as a prompt: the transformer's inputs, divided into words, patches and the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from apportion.core import ApportionError, Feature, Picture
from apportion.diffusion._grid import patch_grid, patch_of_pixel
from apportion.models.inputs import ContinuousInput, Prompt, grid_labels, region_features

#: Inputs that are one feature each, and their names in results.
SINGLE = {"pooled_projections": "pooled prompt", "timestep": "time step", "guidance": "guidance"}


@dataclass(frozen=True, eq=False)
class Step:
    """The inputs of a diffusion transformer at one step, as a prompt for `Explainer`.

    Args:
        inputs: The transformer's keyword arguments for one picture.
        words: The prompt's tokens as shown in results; by default their numbers.
        picture: The background of the patches, (height, width, 3) bytes, such as the decoded latents; by default the
            latents.
    """

    inputs: Mapping[str, Any]
    words: Sequence[str] = ()
    picture: Tensor | None = None

    def as_prompt(self, model: nn.Module) -> Prompt:
        """The prompt, with a continuous input for each of the transformer's inputs that gets shares.

        Raises:
            ApportionError: There are several pictures, or the words do not fit the prompt's embeddings.
        """
        latents = self.inputs.get("hidden_states")
        if not isinstance(latents, Tensor) or len(latents) != 1:
            raise ApportionError("explain one picture at a time: give hidden_states with a batch of 1.")
        continuous_inputs = [self._patches(model, latents), *self._words()]
        for name, label in SINGLE.items():
            value = self.inputs.get(name)
            if isinstance(value, Tensor):
                given = (Feature(label=label, kind="input", part=label, template=True),)
                one = ContinuousInput(name=name, owner=torch.tensor(0), features=given, line=label, batched=False)
                continuous_inputs.append(one)
        features = tuple(feature for continuous in continuous_inputs for feature in continuous.features)
        return Prompt(dict(self.inputs), features, {}, continuous_inputs=tuple(continuous_inputs))

    def _patches(self, model: nn.Module, latents: Tensor) -> ContinuousInput:
        rows, columns = patch_grid(model, self.inputs)
        numbers = torch.arange(rows * columns).reshape(rows, columns)
        if latents.ndim == 4:
            down, across = latents.shape[-2] // rows, latents.shape[-1] // columns
            owner = numbers.repeat_interleave(down, 0).repeat_interleave(across, 1)[None, None]
        else:
            owner = numbers.reshape(1, -1, 1)
        pixels = _shown(latents) if self.picture is None else self.picture
        if pixels is None:
            pixels = torch.full((rows, columns, 3), 128, dtype=torch.uint8)
        over = patch_of_pixel(pixels.shape[:2], rows, columns)
        return ContinuousInput(
            name="hidden_states",
            owner=owner,
            features=region_features(grid_labels(rows, columns), "patch", image=0),
            pictures=(Picture(pixels=pixels, owner=over, label="image"),),
            patches=(rows, columns),
            batched=False,
        )

    def _words(self) -> list[ContinuousInput]:
        prompt = self.inputs.get("encoder_hidden_states")
        if not isinstance(prompt, Tensor):
            return []
        words = list(self.words) or [f" {k}" for k in range(prompt.shape[1])]
        if len(words) != prompt.shape[1]:
            raise ApportionError(
                f"{len(words)} words were given for {prompt.shape[1]} tokens of the prompt; give one for each, padding "
                "included."
            )
        features = tuple(Feature(label=word, kind="token", positions=(k,)) for k, word in enumerate(words))
        owner = torch.arange(len(words))[None, :, None]
        return [
            ContinuousInput(name="encoder_hidden_states", owner=owner, features=features, line="tokens", batched=False)
        ]


def _shown(latents: Tensor) -> Tensor | None:
    """Latents as colours, if they are a picture: the first three channels, or the first as grey."""
    if latents.ndim != 4:
        return None
    image = latents[0, :3] if latents.shape[1] >= 3 else latents[0, :1].expand(3, -1, -1)
    low, high = image.min(), image.max()
    return ((image - low) / (high - low).clamp_min(1e-12) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
