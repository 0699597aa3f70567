"""The small diffusion transformer that is shipped draws what its captions ask for, and its concept maps find it."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

pytest.importorskip("diffusers")

from numpy.random import default_rng

from benchmarks.shapes._diffusion import ShapesDiffusion, batches, pixels, shapes_diffusion
from benchmarks.shapes._pictures import draw
from benchmarks.shapes._reader import KINDS, shapes_reader, things_read
from benchmarks.shapes._scenes import RELATIONS, Scene
from benchmarks.shapes.diffusion_maps import maps_of, two_things


@pytest.fixture(scope="module")
def model() -> ShapesDiffusion:
    return shapes_diffusion()


def test_the_reader_is_right_on_the_generators_own_pictures() -> None:
    held_out = next(batches(5, 90))
    read = things_read(shapes_reader(), pixels(held_out), [len(picture.things) for picture in held_out])
    assert np.mean([a == set(picture.scene.things) for a, picture in zip(read, held_out, strict=True)]) > 0.97


def test_drawn_pictures_show_the_colour_and_the_shape_that_were_asked_for(model: ShapesDiffusion) -> None:
    asked = [*KINDS, *KINDS]
    drawn = model.sample([f"a {colour} {shape}" for colour, shape in asked], steps=8, seed=0)
    read = things_read(shapes_reader(), drawn, [1] * len(asked))
    assert np.mean([a == {kind} for a, kind in zip(read, asked, strict=True)]) >= 0.85


def test_a_colours_concept_map_lies_on_the_thing_of_that_colour(model: ShapesDiffusion) -> None:
    ahead = []
    for picture, coverage, noise in islice(two_things(seed=4), 10):
        colours = [thing.colour for thing in picture.things]
        maps = maps_of(model, picture, noise, 0.5, [*colours, "background"])
        ahead += [
            ((maps.of(colour) * own).sum() / maps.of(colour).sum() - own.mean()).item()
            for colour, own in zip(colours, coverage, strict=True)
        ]
    assert np.mean(ahead) > 0
    assert np.mean(np.array(ahead) > 0) >= 0.8


def test_the_caption_reaches_the_picture_by_its_tokens_alone(model: ShapesDiffusion) -> None:
    prompts, pooled = model.encode(["a red circle", "a blue square above a green cross"])
    assert (pooled[0] == pooled[1]).all()
    assert (prompts[0] != prompts[1]).any()


@pytest.mark.parametrize("relation", RELATIONS)
def test_things_drawn_together_stay_apart_and_in_their_direction(relation: str) -> None:
    scene = Scene((("red", "square"), ("blue", "cross")), relation)
    axis = 1 if relation in ("above", "below") else 0
    sign = 1 if relation in ("above", "left of") else -1
    for spread in (0.0, 0.3, 0.7):
        for seed in range(20):
            first, second = draw(scene, default_rng(seed), 32, radius=(0.17, 0.22), spread=spread).things
            assert not (first.mask & second.mask).any()
            assert sign * (second.box[axis] - first.box[axis]) > 0


def test_without_spread_one_thing_lies_in_the_middle() -> None:
    scene = Scene((("red", "circle"),), None)
    left, top, right, bottom = draw(scene, default_rng(0), 32, spread=0.0).things[0].box
    assert left + right == top + bottom == 32
