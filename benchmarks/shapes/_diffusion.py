"""A small multimodal diffusion transformer, trained from scratch to draw pictures of shapes from their captions."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import SD3Transformer2DModel
from numpy.random import Generator, default_rng
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import PreTrainedTokenizerFast

from benchmarks.shapes._pictures import Picture, draw
from benchmarks.shapes._scenes import WORDS, random_scene
from benchmarks.shapes._tokenizer import _tokenizer

WEIGHTS = Path(__file__).parent / "weights" / "diffusion"
SIDE, PATCH = 32, 4
#: Tokens of every caption, marks and padding included: two things and the background take them all.
LONGEST = 14
BACKGROUND = ("on", "dark", "light", "background")
#: Of a picture with one thing and with two, as parts of the side: larger than elsewhere, for patches are 4 pixels wide.
RADII = {1: (0.22, 0.34), 2: (0.17, 0.22)}
#: How far things lie from the middle, as a part of what fits.
SPREAD = 0.6
#: Time counts as if noise were three times as strong: where things lie and what they are is settled near the noise.
SHIFT = 3.0

_WIDTH, _TEXT = 96, 32
_TRANSFORMER: dict[str, Any] = {
    "sample_size": SIDE,
    "patch_size": PATCH,
    "in_channels": 3,
    "out_channels": 3,
    "num_layers": 4,
    "attention_head_dim": 16,
    "num_attention_heads": _WIDTH // 16,
    "joint_attention_dim": _TEXT,
    "caption_projection_dim": _WIDTH,
    "pooled_projection_dim": _TEXT,
    "pos_embed_max_size": SIDE // PATCH,
}


class CaptionEncoder(nn.Module):
    """Embeds each word of a caption and its place; the transformer's own layers do the rest.

    The pooled embedding is that of the mark that every caption begins with. So what a caption says reaches the picture
    by its tokens alone.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, _TEXT)
        self.places = nn.Parameter(torch.randn(LONGEST, _TEXT))

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """From (batch, token) numbers to (batch, token, text) and (batch, text) embeddings."""
        words = self.words(ids)
        return words + self.places[: ids.shape[1]], words[:, 0]


@dataclass(frozen=True)
class ShapesDiffusion:
    """The transformer, what embeds its captions, and the tokenizer that cuts them into words."""

    transformer: SD3Transformer2DModel
    captions: CaptionEncoder
    tokenizer: PreTrainedTokenizerFast

    def tokens(self, caption: str) -> list[str]:
        """The caption's tokens, in the order of the prompt's embeddings."""
        return self.tokenizer.convert_ids_to_tokens(self._ids([caption])[0].tolist())

    def encode(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(caption, token, text) embeddings of the tokens and (caption, text) pooled ones."""
        return self.captions(self._ids(captions))

    def concept(self, words: str) -> Tensor:
        """(token, text) embeddings of words that stand alone, such as "circle" or "red circle"."""
        ids = self._ids([words])
        said = (ids[0] != self.tokenizer.pad_token_id).sum().item() - 2  # less the two marks
        return self.captions(ids)[0][0, 1 : 1 + said].detach()

    def inputs(self, captions: Sequence[str], noised: Tensor, time: float) -> dict[str, Tensor]:
        """The transformer's keyword inputs at a time from 0 (the picture) to 1 (noise)."""
        prompt, pooled = self.encode(captions)
        return {
            "hidden_states": noised,
            "encoder_hidden_states": prompt.detach(),
            "pooled_projections": pooled.detach(),
            "timestep": torch.full((len(noised),), 1000 * time),
        }

    @torch.no_grad()
    def cleaned(self, captions: Sequence[str], noised: Tensor, time: float, *, guidance: float = 1.0) -> Tensor:
        """The pictures that the transformer sees in noised ones: (batch, 3, side, side)."""
        told = self.transformer(**self.inputs(captions, noised, time)).sample
        if guidance == 1:
            return told
        untold = self.transformer(**self.inputs([""] * len(captions), noised, time)).sample
        return untold + guidance * (told - untold)

    def sample(self, captions: Sequence[str], *, steps: int = 24, seed: int = 0, guidance: float = 3.0) -> Tensor:
        """Draw a picture for each caption: (batch, 3, side, side) from −1 to 1, by Euler steps from noise."""
        random = torch.Generator().manual_seed(seed)
        picture = torch.randn(len(captions), 3, SIDE, SIDE, generator=random)
        even = torch.linspace(1, 0, steps + 1)
        times = (SHIFT * even / (1 + (SHIFT - 1) * even)).tolist()
        for time, later in pairwise(times):
            # The velocity, noise − picture, is (noised − picture) / time.
            clean = self.cleaned(captions, picture, time, guidance=guidance)
            picture = clean + later / time * (picture - clean)
        return picture.clamp(-1, 1)

    def save(self, folder: Path = WEIGHTS) -> None:
        """Write the weights in half precision, with what is needed to read them."""
        folder.mkdir(parents=True, exist_ok=True)
        parts = {"transformer": self.transformer, "captions": self.captions}
        weights = {
            f"{part}.{name}": value.half().contiguous()
            for part, module in parts.items()
            for name, value in module.state_dict().items()
        }
        save_file(weights, folder / "model.safetensors.new")
        (folder / "model.safetensors.new").replace(folder / "model.safetensors")
        config = {"transformer": _TRANSFORMER, "words": [*WORDS, *BACKGROUND]}
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")

    def _ids(self, captions: Sequence[str]) -> Tensor:
        return self.tokenizer(list(captions), padding="max_length", max_length=LONGEST, return_tensors="pt").input_ids


def new_diffusion(words: Sequence[str] = (*WORDS, *BACKGROUND), **transformer: Any) -> ShapesDiffusion:
    """The model with random weights; at the start each block passes on what it gets (adaLN-Zero)."""
    tokenizer = _tokenizer(words, ends=True, longest=LONGEST)
    made = ShapesDiffusion(
        SD3Transformer2DModel(**(transformer or _TRANSFORMER)), CaptionEncoder(len(tokenizer)), tokenizer
    )
    for name, module in made.transformer.named_modules():
        if isinstance(module, nn.Linear) and ("norm" in name or name == "proj_out"):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return made


def shapes_diffusion(folder: Path = WEIGHTS) -> ShapesDiffusion:
    """The trained model; `python -m benchmarks.shapes.train_diffusion` makes its weights."""
    config = json.loads((folder / "config.json").read_text())
    made = new_diffusion(config["words"], **config["transformer"])
    weights = {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}
    for part, module in (("transformer", made.transformer), ("captions", made.captions)):
        prefix = f"{part}."
        module.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        module.eval()
    return made


def pixels(pictures: Sequence[Picture]) -> Tensor:
    """(batch, 3, side, side), from −1 to 1."""
    return torch.from_numpy(np.stack([picture.image for picture in pictures])).permute(0, 3, 1, 2) / 127.5 - 1


def told(picture: Picture, random: Generator) -> str:
    """A caption to train with: mostly the picture's own, half of the time with its background.

    One in ten is empty, for guidance without a classifier; one in eight is a word or two, as concepts are.
    """
    kind = random.random()
    ground = "dark" if np.median(picture.image) < 128 else "light"
    if kind < 0.1:
        return ""
    if kind < 0.225:
        thing = picture.things[random.integers(len(picture.things))]
        alone = (thing.colour, thing.shape, f"{thing.colour} {thing.shape}", "background", f"{ground} background")
        return alone[random.integers(len(alone))]
    return picture.caption + (f" on a {ground} background" if random.random() < 0.5 else "")


def batches(seed: int, size: int, spread: float = SPREAD) -> Iterator[list[Picture]]:
    """Endless batches of new pictures, a third of them with two things."""
    random = default_rng(seed)
    while True:
        yield _batch(random, size, spread)


def _batch(random: Generator, size: int, spread: float) -> list[Picture]:
    counts = [2 if k % 3 == 2 else 1 for k in range(size)]
    return [draw(random_scene(random, n), random, SIDE, radius=RADII[n], spread=spread) for n in counts]


@dataclass(frozen=True)
class Round:
    """A part of the training: so many batches of one size.

    The rate of learning goes from the first number to the last in a straight line, and so, in the first `widening`
    steps, does the spread of the things' places.
    """

    steps: int
    size: int
    rate: tuple[float, float]
    spread: tuple[float, float]
    widening: int = 1

    def rate_at(self, step: int) -> float:
        """At a step counted from 0; the first 120 warm up."""
        first, last = self.rate
        return min(1.0, step / 120 + 0.01) * (first + (last - first) * step / self.steps)

    def spread_at(self, step: int) -> float:
        """At a step counted from 0."""
        first, last = self.spread
        return first + (last - first) * min(1.0, step / self.widening)


#: Where things may lie anywhere, their colours are learnt at once, and their shapes hardly at all: near the noise,
#: where a shape is settled, its place is not known. So the second round begins with things in the middle.
ROUNDS = (Round(1600, 32, (4e-3, 4e-3), (1.0, 1.0)), Round(2400, 24, (4e-3, 4e-3 / 7), (0.2, SPREAD), widening=1680))


def train_diffusion(
    rounds: Sequence[Round] = ROUNDS, *, seed: int = 1, watch: Callable[[int, ShapesDiffusion], None] | None = None
) -> ShapesDiffusion:
    """Train by flow matching: at a random time between picture and noise, tell the picture.

    The loss is that of the velocity, noise − picture = (noised − picture) / time. The transformer is narrow, and to
    tell the velocity itself it would have to carry all of the noise through its layers. What comes out of a round, and
    begins the next, is a running mean of the weights; `watch` gets it after every 200 steps.

    Source:
        Lipman et al. 2023, arXiv 2210.02747; times are drawn as by Esser et al. 2024, arXiv 2403.03206.
    """
    torch.manual_seed(seed)
    model = new_diffusion()
    for number, each in enumerate(rounds):
        model = _trained(model, each, seed + number, watch)
        torch.manual_seed(seed + number + 1)
    model.transformer.eval()
    model.captions.eval()
    return model


def _trained(
    model: ShapesDiffusion, given: Round, seed: int, watch: Callable[[int, ShapesDiffusion], None] | None
) -> ShapesDiffusion:
    """The running mean of the model's weights after a round; the model itself changes, too."""
    random, speaker = default_rng(seed), default_rng(seed)
    parts = nn.ModuleList([model.transformer, model.captions])
    mean = AveragedModel(parts, multi_avg_fn=get_ema_multi_avg_fn(0.995))
    averaged = ShapesDiffusion(*mean.module, model.tokenizer)
    # Of the matrices, those that time alone drives get few directions to learn from.
    matrices = [
        weight
        for name, weight in model.transformer.transformer_blocks.named_parameters()
        if weight.ndim == 2 and "norm" not in name
    ]
    others = [weight for weight in parts.parameters() if all(weight is not matrix for matrix in matrices)]
    # Muon learns this in less than half of the steps that AdamW takes.
    optimisers = (
        torch.optim.Muon(matrices, lr=1.0, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=0.5, betas=(0.9, 0.98), weight_decay=0.01),
    )
    schedules = [LambdaLR(optimiser, given.rate_at) for optimiser in optimisers]
    for step in track(range(given.steps), "diffusion"):
        batch = _batch(random, given.size, given.spread_at(step))
        picture = pixels(batch)
        noise, time = torch.randn_like(picture), (torch.randn(len(batch)) + log(SHIFT)).sigmoid()
        noised = picture + time.view(-1, 1, 1, 1) * (noise - picture)
        prompt, pooled = model.encode([told(each, speaker) for each in batch])
        found = model.transformer(noised, prompt, pooled, 1000 * time).sample
        loss = ((found - picture) / time.clamp_min(0.3).view(-1, 1, 1, 1)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        for optimiser, schedule in zip(optimisers, schedules, strict=True):
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
        mean.update_parameters(parts)
        if watch and step % 200 == 199:
            watch(step + 1, averaged)
    return averaged
