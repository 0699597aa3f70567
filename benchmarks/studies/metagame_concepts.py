"""Does the concept game cut pictures better than the softmax? Exactness, time, and segmentation of pictures of shapes.

python -m benchmarks.studies.metagame_concepts [--limit 40] [--only segmentation]
"""

import argparse
import itertools
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from time import perf_counter

import numpy as np
import pandas
import torch
from torch import Tensor

from apportion.diffusion import ConceptMaps, concept_maps
from apportion.diffusion._concept_game import concept_game
from apportion.evaluation import segmentation
from apportion.results.evaluation._summary import intervals
from benchmarks.shapes._diffusion import SIDE, ShapesDiffusion, batches, pixels, shapes_diffusion
from benchmarks.shapes._pictures import COLOURS, SHAPES, Picture
from benchmarks.studies._study import PAGES, RUNS, write_block

PAGE = "metagame-concepts"
TIMES = (0.3, 0.5)
#: Words for nothing in the picture, which are always present where there is padding.
PADDING = ("a", "of", "on")
#: Words that stand beside the things' colours where there are many concepts.
BESIDE = ("above", "below", "left", "right")
MEASURES = {"accuracy": "accuracy", "miou": "mIoU", "threshold_miou": "mIoU, cut at the mean", "mean_ap": "mAP"}
#: Many concepts share the patch, but each patch is told among those that are in the picture.
AMONG = "many, told among those there"
#: The block of the transformer that alone tells the most patches apart, counted from 0.
BEST = 2


def enumerated(logits: np.ndarray, always: float) -> tuple[np.ndarray, np.ndarray]:
    """Played map and values at one patch, over all coalitions."""
    count = len(logits)
    e = np.exp(logits - logits.max())
    always = always * math.exp(-logits.max())
    masks = np.array(list(itertools.product((False, True), repeat=count)))
    size, mass = masks.sum(1), masks @ e + always
    coalition_mean, values = np.zeros(count), np.zeros((count, count))
    for c in range(count):
        without = ~masks[:, c]
        weights = np.array([1 / (count * math.comb(count - 1, s)) for s in size[without]])
        coalition_mean[c] = (weights * e[c] / (mass[without] + e[c])).sum()
        values[c, c] = e[c] / (e[c] + always)
        for k in range(count):
            if k != c:
                both = without & ~masks[:, k]
                weights = np.array([1 / ((count - 1) * math.comb(count - 2, s)) for s in size[both]])
                moved = e[c] / (mass[both] + e[c] + e[k]) - e[c] / (mass[both] + e[c])
                values[k, c] = (weights * moved).sum()
    return coalition_mean, values


def exactness(draws: int = 10) -> str:
    """The largest error over random dot products of 12 concepts, by their range and the padding's mass."""
    lines = ["| range of the dot products | padding's mass | coalition means | pairs |", "|---:|---:|---:|---:|"]
    random = np.random.default_rng(0)
    for reach, always in itertools.product((1, 3, 10, 50), (0.0, 1.0)):
        worst = [0.0, 0.0]
        for _ in range(draws):
            drawn = random.normal(size=12)
            drawn = drawn * reach / np.ptp(drawn)
            mass = torch.full((1, 1), math.log(always)).double() if always else None
            found = concept_game(torch.from_numpy(drawn)[None, :, None], mass)
            assert found.values is not None
            for k, (mine, true) in enumerate(
                zip((found.coalition_mean[:, 0], found.values[..., 0]), enumerated(drawn, always), strict=True)
            ):
                worst[k] = max(worst[k], float(np.abs(mine.numpy() - true).max()))
        lines.append(f"| {reach} | {always:g} | {worst[0]:.0e} | {worst[1]:.0e} |")
    return "\n".join(lines)


def timed() -> str:
    """Seconds of the game on one thread; the second of two runs, with dot products of standard deviation 2."""
    lines = [
        "| concepts | patches | maps: seconds | µs per concept and patch | with all pairs: seconds | efficiency gap |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    cases = [(5, 256), (20, 256), (50, 256), (100, 256), (200, 256), (20, 1024), (20, 4096), (200, 1024)]
    for concepts, patches in cases:
        logits = 2 * torch.randn(1, concepts, patches, generator=torch.Generator().manual_seed(0)).double()
        seconds, gap = [], 0.0
        for pairs in (False, True):
            took = []
            for _ in range(2):
                start = perf_counter()
                found = concept_game(logits, pairs=pairs)
                took.append(perf_counter() - start)
            seconds.append(min(took))
            if found.values is not None:
                gap = (found.values.sum(0) - logits[0].softmax(0)).abs().max().item()
        each = 1e6 * seconds[0] / concepts / patches
        lines.append(f"| {concepts} | {patches} | {seconds[0]:.2f} | {each:.0f} | {seconds[1]:.2f} | {gap:.0e} |")
    return "\n".join(lines)


def scenes(count: int, seed: int = 41) -> Iterator[tuple[Picture, Tensor]]:
    """As many pictures with one thing as with two, with their noise."""
    random = torch.Generator().manual_seed(seed)
    every = [picture for batch in islice(batches(seed, 48), 1 + count // 16) for picture in batch]
    for things in (1, 2):
        for picture in [each for each in every if len(each.things) == things][: count // 2]:
            yield picture, torch.randn(1, 3, SIDE, SIDE, generator=random)


def words_of(picture: Picture, many: bool) -> list[str]:
    """The colours of the things and the background; where many are wanted, also words for what is not there."""
    own = list(dict.fromkeys(thing.colour for thing in picture.things))
    if not many:
        return [*own, "background"]
    shapes = {thing.shape for thing in picture.things}
    others = [colour for colour in COLOURS if colour not in own]
    return [*own, "background", *others, *(shape for shape in SHAPES if shape not in shapes), *BESIDE]


def seen(model: ShapesDiffusion, picture: Picture, noise: Tensor, time: float, words: Sequence[str]) -> ConceptMaps:
    noised = (1 - time) * pixels([picture]) + time * noise
    inputs = model.inputs([picture.caption], noised, time)
    return concept_maps(model.transformer, inputs, {word: model.concept(word) for word in words})


def regions_of(picture: Picture, words: Sequence[str]) -> Tensor:
    """(concept, side, side): what a colour names; what nothing names is background."""
    masks = torch.stack([torch.from_numpy(picture.mask_of(word)) for word in words])
    masks[[word not in COLOURS for word in words]] = False
    masks[list(words).index("background")] = ~masks.any(0)
    return masks


def ways(maps: ConceptMaps, padding: Sequence[str]) -> dict[str, Tensor]:
    """The maps of those that play, made in several ways."""
    players = [k for k, name in enumerate(maps.concepts) if name not in padding]
    made = {"softmax": maps.maps[players], "played": maps.coalition_mean(padding=padding)}
    if padding:
        return {f"{name}, with padding": each for name, each in made.items()}
    ground = torch.zeros_like(maps.maps)
    ground[maps.concepts.index("background")] = 1
    softer = {f"softmax of dot products / {by}": (maps.by_layer / by).softmax(1).mean(0) for by in (2, 4)}
    return {**made, **softer, "mean dot product": maps.logits, "background everywhere": ground}


def segmented(limit: int) -> pandas.DataFrame:
    """A row for each picture, noise, set of concepts, choice of blocks and way to make maps."""
    model = shapes_diffusion()
    rows = []
    for item, (picture, noise) in enumerate(scenes(limit)):
        for time, many, padding in itertools.product(TIMES, (False, True), ((), PADDING)):
            words = words_of(picture, many)
            whole = seen(model, picture, noise, time, [*words, *padding])
            regions = regions_of(picture, words)
            there = len(words_of(picture, many=False))  # those there come first
            scopes = {"many": len(words), AMONG: there} if many else {"few": there}
            for blocks in ("all", "one"):
                part = whole.by_layer if blocks == "all" else whole.by_layer[[BEST]]
                maps = ConceptMaps(concepts=whole.concepts, by_layer=part, layers=whole.layers[: len(part)])
                made = ways(maps, padding)
                for scope, count in scopes.items():
                    plain = next(iter(made.values()))[:count].argmax(0)
                    for way, each in made.items():
                        found = segmentation(each[:count], regions[:count])
                        rows.append(
                            {
                                "item": item,
                                "things": len(picture.things),
                                "time": time,
                                "concepts": scope,
                                "blocks": blocks,
                                "way": way,
                                "changed": (each[:count].argmax(0) != plain).double().mean().item(),
                                **{measure: getattr(found, measure) for measure in MEASURES},
                            }
                        )
    return pandas.DataFrame(rows)


def ranges(limit: int, time: float = TIMES[0]) -> str:
    """How far the dot products of many concepts lie apart at a patch."""
    model = shapes_diffusion()
    found = [seen(model, picture, noise, time, words_of(picture, True)).by_layer for picture, noise in scenes(limit)]
    apart = torch.cat([(each.amax(1) - each.amin(1)).flatten() for each in found])
    low, middle, high = torch.quantile(apart, torch.tensor([0.05, 0.5, 0.95])).tolist()
    return (
        f"The dot products of many concepts at a patch, at {time:.0%} noise, reach over {middle:.0f} in the median "
        f"({low:.0f} to {high:.0f} in nine of ten patches, {apart.max():.0f} at most)."
    )


def summary(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Mean and 95 % interval of each measure over pictures."""
    lines = []
    for key, each in rows.groupby(["concepts", "blocks", "time", "way"], sort=False):
        found = intervals(each[list(MEASURES)].to_numpy())
        for k, measure in enumerate(MEASURES):
            lines.append((*key, measure, found.n[k], found.mean[k], found.low[k], found.high[k]))
    return pandas.DataFrame(lines, columns=["concepts", "blocks", "time", "way", "measure", "n", "mean", "low", "high"])


def shown(rows: pandas.DataFrame, columns: Sequence[str], sign: str = "") -> list[str]:
    """Cells of a table: means with 95 % intervals by bootstrap over pictures."""
    found = intervals(rows[list(columns)].to_numpy())
    return [
        f"{mean:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]".replace("-", "−")
        for mean, low, high in zip(found.mean, found.low, found.high, strict=True)
    ]


def compared(rows: pandas.DataFrame) -> str:
    """A table of ways against measures, for each noise."""
    lines = [f"| noise | maps | {' | '.join(MEASURES.values())} |", f"|---:|---|{'---:|' * len(MEASURES)}"]
    for (time, way), each in rows.groupby(["time", "way"], sort=False):
        lines.append(f"| {time:.0%} | {way} | {' | '.join(shown(each, list(MEASURES)))} |")
    return "\n".join(lines)


def differences(rows: pandas.DataFrame) -> str:
    """Played less softmax on the same pictures, and the part of patches that change their concept."""
    lines = [
        f"| concepts | blocks | noise | padding | patches changed | {' | '.join(MEASURES.values())} |",
        f"|---|---|---:|---|---:|{'---:|' * len(MEASURES)}",
    ]
    for (concepts, blocks, time), each in rows.groupby(["concepts", "blocks", "time"], sort=False):
        for ending, padded in (("", "no"), (", with padding", "yes")):
            played, plain = (
                each[each.way == f"{way}{ending}"].set_index("item")[[*MEASURES, "changed"]]
                for way in ("played", "softmax")
            )
            moved = played - plain
            cells = " | ".join(shown(moved, list(MEASURES), sign="+"))
            lines.append(f"| {concepts} | {blocks} | {time:.0%} | {padded} | {moved.changed.mean():.1%} | {cells} |")
    return "\n".join(lines)


def pictured() -> None:
    """Two pictures with the interactions of few and of many concepts."""
    model = shapes_diffusion()
    two = [each for each in scenes(40) if len(each[0].things) == 2 and len(words_of(each[0], False)) == 3]
    picture, noise = two[0]
    own = words_of(picture, False)
    for name, words in (("few", own), ("many", words_of(picture, True))):
        found = seen(model, picture, noise, TIMES[0], words).interactions()
        drawn = found.plot(picture.image, concepts=own)
        drawn.savefig(PAGES / f"{PAGE}-{name}.png", dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=80, help="pictures")
    parser.add_argument("--only", choices=("exactness", "time", "segmentation", "pictures"), action="append")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = options.only or ["exactness", "time", "segmentation", "pictures"]
    if "exactness" in chosen:
        write_block(PAGE, "accuracy", exactness())
    if "time" in chosen:
        write_block(PAGE, "time", timed())
    if "segmentation" in chosen:
        rows = segmented(options.limit)
        summary(rows).to_csv(RUNS / f"{PAGE}.csv", index=False, float_format="%.5g")
        everywhere = rows[rows.blocks == "all"]
        for concepts in ("few", "many", AMONG):
            write_block(PAGE, concepts, compared(everywhere[everywhere.concepts == concepts]))
        write_block(PAGE, "ranges", ranges(options.limit))
        write_block(PAGE, "differences", differences(everywhere))
        write_block(PAGE, "layer", differences(rows[rows.blocks == "one"]))
    if "pictures" in chosen:
        pictured()


if __name__ == "__main__":
    main()
