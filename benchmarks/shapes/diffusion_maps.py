"""Measure what the diffusion transformer of the shapes draws, and whether its explanations find the things.

    python -m benchmarks.shapes.diffusion_maps     # writes weights/diffusion/measured.json

The truth is known: which pixels belong to which thing, and which words name it.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

import apportion as ap
from apportion.diffusion import ConceptMaps, Region, Step, concept_maps, modulation_held
from apportion.relevance import ATTNLRP, CP_LRP, GRADIENT, Composite
from benchmarks.shapes._diffusion import PATCH, SIDE, WEIGHTS, ShapesDiffusion, batches, pixels, shapes_diffusion
from benchmarks.shapes._pictures import Picture
from benchmarks.shapes._reader import KINDS, shapes_reader, things_read

GRID = SIDE // PATCH
TIMES = (0.3, 0.5, 0.7)


def drawn(model: ShapesDiffusion, rounds: int = 10) -> dict[str, float]:
    """How often a reader finds in a drawn picture what its caption asks for, and in the generator's own pictures."""
    reader = shapes_reader()
    held_out = next(batches(99, 400))
    seen = things_read(reader, pixels(held_out), [len(picture.things) for picture in held_out])
    truth = [set(picture.scene.things) for picture in held_out]
    one = [{kind} for kind in KINDS] * rounds
    made = model.sample([f"a {colour} {shape}" for colour, shape in KINDS] * rounds, seed=1)
    read_one = things_read(reader, made, [1] * len(one))
    scenes = [picture.scene for picture in held_out if len(picture.things) == 2]
    made = model.sample([scene.caption for scene in scenes], seed=2)
    read_two = things_read(reader, made, [2] * len(scenes))
    two = [set(scene.things) for scene in scenes]
    return {
        "reader, generator's pictures": _share([a == b for a, b in zip(seen, truth, strict=True)]),
        "one thing: colour and shape": _share([a == b for a, b in zip(read_one, one, strict=True)]),
        "two things: both": _share([a == b for a, b in zip(read_two, two, strict=True)]),
        "two things: each": _share([len(a & b) / 2 for a, b in zip(read_two, two, strict=True)]),
        "pictures with one thing": len(one),
        "pictures with two": len(two),
    }


def two_things(seed: int = 31) -> Iterator[tuple[Picture, Tensor, Tensor]]:
    """Endless pictures of two things that share neither colour nor shape, with (thing, row, col) coverage and noise."""
    random = torch.Generator().manual_seed(seed)
    for batch in batches(seed, 32):
        for picture in batch:
            if len(picture.things) == 2 and picture.things[0].colour != picture.things[1].colour:
                if picture.things[0].shape == picture.things[1].shape:
                    continue
                masks = torch.from_numpy(np.stack([thing.mask for thing in picture.things])).float()
                coverage = masks.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH).mean((-1, -2))
                yield picture, coverage, torch.randn(1, 3, SIDE, SIDE, generator=random)


def maps_of(model: ShapesDiffusion, picture: Picture, noise: Tensor, time: float, words: list[str]) -> ConceptMaps:
    """Concept maps of a picture noised to a time, under its own caption."""
    noised = (1 - time) * pixels([picture]) + time * noise
    return concept_maps(
        model.transformer,
        model.inputs([picture.caption], noised, time),
        {word: model.concept(word) for word in words},
    )


def localisation(model: ShapesDiffusion, count: int = 60) -> dict[str, Any]:
    """Whether the map of a thing's word lies on the thing.

    `mass` is the part of the map's mass inside the thing's mask; `chance` that of an even map. `pointing` is how often
    the map's largest patch has most of its pixels on the thing. `told apart` is, of the patches that lie mostly on one
    thing, the part where its map is the larger of the two things'.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for picture, coverage, noise in islice(two_things(), count):
        named = {
            "shape": [thing.shape for thing in picture.things],
            "colour": [thing.colour for thing in picture.things],
            "both": [f"{thing.colour} {thing.shape}" for thing in picture.things],
        }
        for time in TIMES:
            for kind, words in named.items():
                maps = maps_of(model, picture, noise, time, [*words, "background"])
                for layer in (None, *range(len(maps.layers))):
                    chosen = maps if layer is None else replace(maps, by_layer=maps.by_layer[layer : layer + 1])
                    where = "all layers" if layer is None else f"layer {layer}"
                    row = found.setdefault(f"{kind}, t={time}, {where}", {})
                    for name, value in _scores(chosen.maps, coverage).items():
                        row.setdefault(name, []).extend(value)
    return {key: {name: round(float(np.mean(v)), 3) for name, v in row.items()} for key, row in found.items()}


def _scores(maps: Tensor, coverage: Tensor) -> dict[str, list[float]]:
    scores: dict[str, list[float]] = {"mass": [], "chance": [], "pointing": [], "told apart": []}
    for k in range(2):
        scores["mass"].append(float((maps[k] * coverage[k]).sum() / maps[k].sum()))
        scores["chance"].append(float(coverage[k].mean()))
        scores["pointing"].append(float(coverage[k].flatten()[maps[k].flatten().argmax()] > 0.5))
        inside = coverage[k] > 0.5
        scores["told apart"] += (maps[k] > maps[1 - k])[inside].float().tolist()
    ground = 1 - coverage.sum(0)
    scores["background mass"] = [float((maps[2] * ground).sum() / maps[2].sum())]
    scores["background chance"] = [float(ground.mean())]
    return scores


def phrases(model: ShapesDiffusion, count: int = 30, time: float = 0.7) -> dict[str, Any]:
    """Whether the relevance of a thing's region lies on the words that name it, and how it agrees with leaving out.

    `own` is how often the two words of the thing have more relevance than the two of the other thing; `r` the mean
    correlation, over the prompt's words, with what is lost when a word's embedding is replaced by that of padding.
    """
    options = {
        f"{composite.name}, modulation {modulation}": (composite, modulation)
        for composite in (ATTNLRP, CP_LRP, GRADIENT)
        for modulation in ("constant", "product")
    }
    found: dict[str, dict[str, list[float]]] = {}
    for picture, coverage, noise in islice(two_things(77), count):
        noised = (1 - time) * pixels([picture]) + time * noise
        inputs, empty = (model.inputs([caption], noised, time) for caption in (picture.caption, ""))
        with torch.no_grad():
            told, untold = (model.transformer(**given).sample for given in (inputs, empty))
        tokens = model.tokens(picture.caption)
        words = [[tokens.index(thing.colour), tokens.index(thing.shape)] for thing in picture.things]
        spoken = [k for k, token in enumerate(tokens) if not token.startswith("<")]
        for k in range(2):
            region = coverage[k] > 0.5
            wide = region.repeat_interleave(PATCH, 0).repeat_interleave(PATCH, 1)
            for name, along in (("output", told * wide), ("prompt's effect", (told - untold) * wide)):
                direction = along / along.norm()
                left_out = _left_out(model, inputs, direction * wide, spoken, told)
                target = Region(region, direction)
                rows = {
                    option: _of_words(model, inputs, target, composite, held=modulation == "constant")
                    for option, (composite, modulation) in options.items()
                }
                full = torch.zeros(len(tokens))
                full[spoken] = left_out
                for option, relevance in {**rows, "left out": full}.items():
                    row = found.setdefault(f"{name}: {option}", {"own": [], "r": []})
                    row["own"].append(float(relevance[words[k]].sum() > relevance[words[1 - k]].sum()))
                    row["r"].append(float(torch.corrcoef(torch.stack([relevance[spoken], left_out]))[0, 1]))
    return {key: {name: round(float(np.mean(v)), 3) for name, v in row.items()} for key, row in found.items()}


def _of_words(
    model: ShapesDiffusion, inputs: dict[str, Tensor], target: Region, composite: Composite, *, held: bool
) -> Tensor:
    """Relevance of each token of the caption."""
    rules = modulation_held(composite, model.transformer) if held else composite
    explainer = ap.Explainer(model.transformer)
    found = explainer.explain(Step(inputs), target=target, method=ap.Propagation(rules))
    return found.scores[[feature.kind == "token" for feature in found.features]]


@torch.no_grad()
def _left_out(
    model: ShapesDiffusion, inputs: dict[str, Tensor], seed: Tensor, spoken: list[int], told: Tensor
) -> Tensor:
    """What the value loses when one word is padding: (word of the caption)."""
    prompt = inputs["encoder_hidden_states"]
    without = prompt.repeat(len(spoken), 1, 1)
    padding = model.captions.words.weight[model.tokenizer.pad_token_id]
    for row, k in zip(without, spoken, strict=True):
        row[k] = padding + model.captions.places[k]
    many = {name: value.expand(len(spoken), *value.shape[1:]) for name, value in inputs.items()}
    output = model.transformer(**{**many, "encoder_hidden_states": without}).sample
    return ((told - output) * seed).flatten(1).sum(1)


def _share(hits: list[Any]) -> float:
    return round(float(np.mean(hits)), 3)


def main() -> None:
    torch.set_num_threads(1)
    model = shapes_diffusion()
    measured = {"drawn": drawn(model), "localisation": localisation(model), "phrases": phrases(model)}
    (WEIGHTS / "measured.json").write_text(json.dumps(measured, indent=1) + "\n")
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
