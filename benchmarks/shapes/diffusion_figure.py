"""Draw docs/images/diffusion-concepts.png: pictures half-way out of noise, and where the model sees each word."""

from itertools import islice
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from benchmarks.shapes._diffusion import PATCH, pixels, shapes_diffusion
from benchmarks.shapes.diffusion_maps import maps_of, two_things

TO = Path(__file__).parents[2] / "docs" / "images" / "diffusion-concepts.png"
TIME = 0.5


def _image(picture: Tensor) -> np.ndarray:
    return ((picture[0].clamp(-1, 1) + 1) / 2).permute(1, 2, 0).numpy()


def main() -> None:
    torch.set_num_threads(1)
    model = shapes_diffusion()
    examples = list(islice(two_things(seed=12), 4))
    figure, axes = plt.subplots(len(examples), 5, figsize=(8.6, 7.2), layout="constrained")
    for row, (picture, _, noise) in zip(axes, examples, strict=True):
        noised = (1 - TIME) * pixels([picture]) + TIME * noise
        found = model.cleaned([picture.caption], noised, TIME)
        words = [*(f"{thing.colour} {thing.shape}" for thing in picture.things), "background"]
        maps = maps_of(model, picture, noise, TIME, words)
        row[0].imshow(_image(noised), interpolation="nearest")
        row[0].set_title(fill(f"{picture.caption}, half noise", 24), fontsize=7)
        row[1].imshow(_image(found), interpolation="nearest")
        row[1].set_title("what the model\nmakes of it", fontsize=7)
        for axis, word in zip(row[2:], words, strict=True):
            wide = maps.of(word).repeat_interleave(PATCH, 0).repeat_interleave(PATCH, 1)
            axis.imshow(_image(found).mean(-1), cmap="gray", vmin=0, vmax=1)
            shown = axis.imshow(wide, cmap="magma", vmin=0, vmax=1, alpha=0.75)
            for thing in picture.things:
                axis.contour(thing.mask, levels=[0.5], colors="white", linewidths=0.8)
            axis.set_title(f"“{word}”", fontsize=8)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.colorbar(shown, ax=axes, shrink=0.5, label="share of the patch among the three concepts")
    figure.savefig(TO, dpi=110)


if __name__ == "__main__":
    main()
