"""Draw docs/images/shapes.png: twelve pictures with their captions, the outlines of their things' masks drawn in."""

from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt

from benchmarks.shapes._pictures import pictures

TO = Path(__file__).parents[2] / "docs" / "images" / "shapes.png"


def main() -> None:
    figure, axes = plt.subplots(2, 6, figsize=(10, 4.2), layout="constrained")
    for axis, picture in zip(axes.flat, pictures(12, seed=20, things=(1, 2, 2)), strict=True):
        axis.imshow(picture.image, interpolation="nearest")
        for thing in picture.things:
            axis.contour(thing.mask, levels=[0.5], colors="white", linewidths=0.8)
        axis.set_title(fill(picture.caption, 20), fontsize=8)
        axis.set_axis_off()
    figure.savefig(TO, dpi=110)


if __name__ == "__main__":
    main()
