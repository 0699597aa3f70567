"""A small convolutional network that reads from a picture of shapes which things it shows."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.shapes._diffusion import WEIGHTS, batches, pixels
from benchmarks.shapes._scenes import COLOURS, SHAPES

FILE = WEIGHTS / "reader.safetensors"
KINDS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)


def new_reader() -> nn.Sequential:
    """A network from pictures (batch, 3, side, side) to logits (batch, kind): is there such a thing?"""
    return nn.Sequential(
        *(nn.Conv2d(3, 24, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(24, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.Conv2d(64, 96, 3, padding=1), nn.BatchNorm2d(96), nn.ReLU()),
        *(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(96, len(KINDS))),
    )


def shapes_reader(file: Path = FILE) -> nn.Sequential:
    """The trained reader; `python -m benchmarks.shapes.train_diffusion` makes its weights."""
    model = new_reader()
    model.load_state_dict({name: value.float() for name, value in load_file(file).items()})
    return model.eval()


def save_reader(model: nn.Module, file: Path = FILE) -> None:
    """Write the weights in half precision."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in model.state_dict().items()}, file)


def train_reader(steps: int = 700, *, seed: int = 7) -> nn.Sequential:
    """Train on pictures of the generator with things wherever they fit."""
    torch.manual_seed(seed)
    model = new_reader()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=steps)
    for batch in islice(batches(seed, 64, 1.0), steps):
        truth = torch.zeros(len(batch), len(KINDS))
        for row, picture in zip(truth, batch, strict=True):
            row[[KINDS.index((thing.colour, thing.shape)) for thing in picture.things]] = 1
        seen = pixels(batch)
        # A little noise: drawn pictures are never as clean as the generator's.
        logits = model(seen + 0.05 * torch.randn_like(seen))
        optimiser.zero_grad()
        binary_cross_entropy_with_logits(logits, truth).backward()
        optimiser.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def things_read(reader: nn.Module, pictures: Tensor, counts: Sequence[int]) -> list[set[tuple[str, str]]]:
    """The likeliest kinds in each picture, as many as `counts` says."""
    found = reader(pictures)
    return [{KINDS[k] for k in row.topk(count).indices.tolist()} for row, count in zip(found, counts, strict=True)]
