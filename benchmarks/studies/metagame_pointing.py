"""Does a caption's phrase point at the thing it names? The metagame of words and patches, on a CLIP of shapes.

python -m benchmarks.studies.metagame_pointing [--limit 40] [--only phrases]
"""

import argparse
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas
import torch
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import apportion as ap
from apportion.core._progress import progress
from benchmarks.shapes._models import shapes_clip
from benchmarks.shapes._pictures import Picture, paint, pictures, random_grey
from benchmarks.shapes._scenes import COLOURS, SHAPES
from benchmarks.studies._study import RUNS, save, write_block

PAGE = "metagame-pointing"
METHODS = ("attnlrp", "res-lrp", "cp-lrp", "input-x-gradient", "chefer")
WORDY = ("attnlrp", "res-lrp", "cp-lrp")
RADIUS = (0.14, 0.17)
MAPS = {
    "first order": "first order, one map for all",
    "alone": "the phrase alone",
    "alone, less nothing": "the phrase alone, less the empty caption",
    "left out": "the caption less the caption without it",
    "metagame": "metagame",
}
SEED = 41


def scattered(count: int, seed: int, things: int, side: int = 64) -> Iterator[Picture]:
    """Pictures of 3 or 4 things that do not touch, whose caption names one after the other."""
    random = default_rng(seed)
    for _ in range(count):
        numbers = random.choice(len(COLOURS) * len(SHAPES), size=things, replace=False).tolist()
        kinds = [(COLOURS[n % len(COLOURS)], SHAPES[n // len(COLOURS)]) for n in numbers]
        radii = random.uniform(*RADIUS, size=things)
        placed = list(zip(kinds, _apart(random, radii), radii.tolist(), strict=True))
        image, shown = paint(placed, random_grey(random), random, side)
        yield Picture(image=image, caption=" ".join(f"a {c} {s}" for c, s in kinds), things=shown, relation=None)


def _apart(random: Generator, radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centres whose things' boxes do not overlap."""
    reach = radii[:, None] + radii + 0.02
    while True:
        centres = random.uniform(radii[:, None] + 0.02, 0.98 - radii[:, None], size=(len(radii), 2))
        far = (abs(centres[:, None] - centres).max(-1) > reach) | np.eye(len(radii), dtype=bool)
        if far.all():
            return centres


def shown(things: int, count: int) -> list[Picture]:
    """Pictures with so many things."""
    made = pictures(count, SEED, things=(things,)) if things <= 2 else scattered(count, SEED, things)
    return list(made)


def phrase_maps(explainer: ap.Explainer, picture: Picture, method: str) -> list[dict[str, Tensor]]:
    """For each thing the maps that are compared, a score for each patch."""
    image = Image.fromarray(picture.image)
    phrases = [f"a {thing.colour} {thing.shape}" for thing in picture.things]

    def game(text: str, players: Any) -> ap.Interactions:
        found: ap.Interactions = explainer.interactions(
            ap.Pair(image, text), method=method, progress=False, game=ap.Game(players=players, estimator="exact")
        )
        return found

    together = game(picture.caption, phrases)
    maps = []
    for k, phrase in enumerate(phrases):
        alone = game(phrase, [phrase])
        maps.append(
            {
                "first order": together.first_order,
                "alone": alone.first_order,
                "alone, less nothing": alone.first_order - alone.main_effect,
                "left out": game(picture.caption, [phrase]).values[0],
                "metagame": together.values[k],
            }
        )
    return maps


def word_maps(explainer: ap.Explainer, picture: Picture, method: str) -> list[dict[str, Tensor]]:
    """The same where every word plays: colour and shape of a thing added up, and each by itself."""
    found = explainer.interactions(
        ap.Pair(Image.fromarray(picture.image), picture.caption),
        method=method,
        progress=False,
        game=ap.Game(estimator="exact"),
    )
    labels = [source.label.strip() for source in found.sources]
    maps = []
    for thing in picture.things:
        colour, shape = (found.values[labels.index(word)] for word in (thing.colour, thing.shape))
        maps.append({"colour and shape": colour + shape, "colour": colour, "shape": shape})
    return maps


def scores(scored: Tensor, mask: NDArray[np.bool_]) -> tuple[float, float]:
    """The part of a map's positive mass inside a mask, and whether its largest patch lies there by half.

    A map without positive parts has no mass inside and points nowhere.
    """
    side = round(len(scored) ** 0.5)
    patch = mask.shape[0] // side
    covered = torch.from_numpy(mask).double().view(side, patch, side, patch).mean((1, 3)).flatten()
    positive = scored.double().clamp(min=0)
    total = positive.sum()
    if total <= 0:
        return 0.0, 0.0
    return float((positive * covered).sum() / total), float(covered[positive.argmax()] >= 0.5)


def told_apart(picture: Picture) -> bool:
    """Whether no two things have a colour or a shape in common, so that each word is of one of them."""
    return len({word for t in picture.things for word in (t.colour, t.shape)}) == 2 * len(picture.things)


def measured(limit: int, *, words: bool) -> pandas.DataFrame:
    """A row for each picture, method and map: means over the things in the picture."""
    explainer = ap.Explainer(*shapes_clip())
    rows = []
    for things in (2,) if words else (1, 2, 3, 4):
        seen = [p for p in shown(things, 4 * limit) if told_apart(p)] if words else shown(things, limit)
        for number, picture in enumerate(progress(seen[:limit], f"{things} things", show=True)):
            chance = float(np.mean([thing.mask.mean() for thing in picture.things]))
            for method in WORDY if words else METHODS:
                maps = (word_maps if words else phrase_maps)(explainer, picture, method)
                for name in maps[0]:
                    each = [scores(one[name], t.mask) for one, t in zip(maps, picture.things, strict=True)]
                    inside, pointed = np.mean(each, axis=0)
                    rows.append((things, number, method, name, inside, pointed, chance))
    return pandas.DataFrame(rows, columns=["things", "picture", "method", "map", "inside", "pointing", "chance"])


def summarised(found: pandas.DataFrame) -> pandas.DataFrame:
    """Means over pictures, with their intervals."""
    rows = []
    for (things, method, name), of in found.groupby(["things", "method", "map"], sort=False):
        for column in ("inside", "pointing"):
            values = of[column].to_numpy(float)
            rows.append((things, method, name, column, len(values), values.mean(), *interval(values), of.chance.mean()))
    return pandas.DataFrame(
        rows, columns=["things", "method", "map", "measure", "pictures", "mean", "low", "high", "chance"]
    )


def interval(values: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """A 95 % interval of a mean, bootstrap over pictures."""
    drawn = default_rng(seed).integers(len(values), size=(2000, len(values)))
    low, high = np.percentile(values[drawn].mean(1), [2.5, 97.5])
    return float(low), float(high)


def cell(values: pandas.Series, *, signed: bool = False) -> str:
    """A mean with its interval."""
    sign = "+" if signed else ""
    low, high = interval(values.to_numpy(float))
    return f"{values.mean():{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]".replace("-", "−")


def by_things(found: pandas.DataFrame, method: str, column: str) -> str:
    """A table: a row for each map, a column for each number of things."""
    mine, counts = found[found.method == method], sorted(found.things.unique())
    heads = " | ".join("1 thing" if n == 1 else f"{n} things" for n in counts)
    lines = [f"| {method} | {heads} |", "|---|" + "---:|" * len(counts)]
    for name, label in MAPS.items():
        of = mine[mine["map"] == name]
        lines.append(f"| {label} | {' | '.join(cell(of[of.things == n][column]) for n in counts)} |")
    chance = [f"{mine[mine.things == n].chance.mean():.2f}" for n in counts]
    return "\n".join([*lines, f"| chance | {' | '.join(chance)} |"])


def differences(found: pandas.DataFrame, column: str) -> str:
    """Metagame less each other map on the same pictures of two things and more."""
    several = found[found.things > 1].pivot_table(index=["method", "things", "picture"], columns="map", values=column)
    others = [name for name in MAPS if name != "metagame"]
    lines = [f"| metagame less … | {' | '.join(MAPS[name] for name in others)} |", "|---|" + "---:|" * len(others)]
    for method in METHODS:
        mine = several.loc[method]
        cells = [cell(mine["metagame"] - mine[name], signed=True) for name in others]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def of_words(found: pandas.DataFrame) -> str:
    """A table of maps of words in pictures of two things."""
    names = list(found["map"].unique())
    lines = [f"| words play | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    for method in WORDY:
        mine = found[found.method == method]
        lines.append(f"| {method} | {' | '.join(cell(mine[mine['map'] == n].inside) for n in names)} |")
    return "\n".join([*lines, f"| chance | {' | '.join([f'{found.chance.mean():.2f}'] * len(names))} |"])


def draw_maps(method: str = "res-lrp") -> None:
    """One caption: for each of its words the metagame's map and that of the word alone, beside the first order."""
    explainer = ap.Explainer(*shapes_clip())
    picture = next(p for p in pictures(20, SEED + 1, things=(2,)) if p.things[0].colour != p.things[1].colour)
    image = Image.fromarray(picture.image)
    found = explainer.interactions(ap.Pair(image, picture.caption), method=method, progress=False)
    words = [k for k, f in enumerate(found.sources) if f.label.strip() != "a"]
    alone = {
        k: explainer.interactions(ap.Pair(image, found.sources[k].label.strip()), method=method, progress=False)
        for k in words
    }
    rows = {
        "first order\n(the same for all)": dict.fromkeys(words, found.first_order),
        "metagame": {k: found.values[k] for k in words},
        "the word alone": {k: alone[k].first_order for k in words},
        "alone, less\nthe empty caption": {k: alone[k].first_order - alone[k].main_effect for k in words},
    }
    figure, axes = plt.subplots(len(rows), len(words) + 1, figsize=(1.7 * len(words) + 1.7, 7.4), layout="constrained")
    for line, (name, maps) in zip(axes, rows.items(), strict=True):
        line[0].imshow(picture.image, interpolation="nearest")
        line[0].set_ylabel(name, fontsize=9)
        line[0].set(xticks=[], yticks=[])
        most = max(float(one.abs().max()) for one in maps.values())
        for axis, k in zip(line[1:], words, strict=True):
            side = round(len(maps[k]) ** 0.5)
            scale = {"cmap": "RdBu_r", "vmin": -most, "vmax": most, "extent": (0, 64, 64, 0)}
            axis.imshow(maps[k].view(side, side), interpolation="nearest", **scale)
            for thing in picture.things:
                axis.contour(np.arange(64) + 0.5, np.arange(64) + 0.5, thing.mask, levels=[0.5], colors="black")
            axis.set_axis_off()
            axis.set_title(found.sources[k].label.strip(), fontsize=9)
    figure.suptitle(f"“{picture.caption}”, {method}; red adds to the similarity, blue takes away", fontsize=10)
    save(figure, PAGE)


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=40, help="pictures of each number of things")
    parser.add_argument("--only", choices=("phrases", "words", "picture"), action="append")
    options = parser.parse_args()
    chosen = options.only or ["phrases", "words", "picture"]
    if "phrases" in chosen:
        found = measured(options.limit, words=False)
        summarised(found).to_csv(RUNS / f"{PAGE}.csv", index=False, float_format="%.5g")
        write_block(PAGE, "inside", "\n\n".join(by_things(found, method, "inside") for method in METHODS))
        write_block(PAGE, "pointing", "\n\n".join(by_things(found, method, "pointing") for method in METHODS))
        write_block(PAGE, "differences", differences(found, "inside"))
        write_block(PAGE, "differences pointing", differences(found, "pointing"))
    if "words" in chosen:
        found = measured(options.limit, words=True)
        summarised(found).to_csv(RUNS / f"{PAGE}-words.csv", index=False, float_format="%.5g")
        write_block(PAGE, "words", f"{found.picture.nunique()} pictures.\n\n{of_words(found)}")
    if "picture" in chosen:
        draw_maps()


if __name__ == "__main__":
    main()
