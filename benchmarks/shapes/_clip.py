"""A small CLIP, trained from scratch to tell pictures of shapes by their captions."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from math import log

import numpy as np
import torch
from numpy.random import Generator, default_rng
from rich.progress import track
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast

from benchmarks.shapes._naming import Teacher, learn_names
from benchmarks.shapes._optimisers import Descent
from benchmarks.shapes._pictures import Picture, draw
from benchmarks.shapes._scenes import COLOURS, SHAPES, Scene, neighbours, random_scene
from benchmarks.shapes._tokenizer import tokenizer

SIDE, PATCH = 64, 8


def image_processor() -> CLIPImageProcessorPil:
    """Brings a picture to 64 × 64 pixels and its bytes to −1…1."""
    return CLIPImageProcessorPil(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


def pixel_values(pictures: Sequence[Picture]) -> Tensor:
    """(batch, 3, side, side), what the image processor makes of pictures of the right size."""
    return torch.from_numpy(np.stack([picture.image for picture in pictures])).permute(0, 3, 1, 2) / 127.5 - 1


def new_clip(words: PreTrainedTokenizerFast) -> CLIPModel:
    """A CLIP of random weights: 8 × 8 patches and 4 layers for images, 3 layers for captions."""
    shared = {"hidden_size": 96, "intermediate_size": 192, "num_attention_heads": 4, "hidden_act": "gelu"}
    marks = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    vision = {**shared, "num_hidden_layers": 4, "image_size": SIDE, "patch_size": PATCH}
    text = {**shared, **marks, "num_hidden_layers": 3, "vocab_size": len(words), "max_position_embeddings": 16}
    return CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=64))


def train_clip(steps: int, *, seed: int = 1, groups: int = 8, warm_up: int = 600) -> tuple[CLIPModel, CLIPProcessor]:
    """Train on `steps` batches of new pictures with the contrastive loss; the model and its processor.

    Before it, the vision tower learns for `warm_up` steps what lies on each patch and where, and goes on learning it
    for the first half of the contrastive steps. Telling the pictures of a batch by their captions takes every word:
    each comes with its neighbours, see `batches`. The first 6% of the batches are of all pictures with one thing.
    """
    torch.manual_seed(seed)
    words = tokenizer()
    model = new_clip(words).train()
    teacher = Teacher(model.vision_model)
    learn_names(model.vision_model, teacher, warm_up, seed=seed)
    descent, mean = Descent([model, teacher], steps), 0.0
    first = islice(single_batches(seed), steps // 16)
    for step, (seen, captions) in enumerate(track(islice(chain(first, batches(seed, groups)), steps), "CLIP", steps)):
        tokens = words(captions, padding=True, return_tensors="pt")
        made = model(pixel_values=pixel_values(seen), **tokens)
        logits, own = made.logits_per_image, torch.arange(len(seen))
        loss = (cross_entropy(logits, own) + cross_entropy(logits[:, : len(seen)].T, own)) / 2
        mean += (loss.item() - mean) / min(step + 1, 50)
        if step < steps // 2:
            hidden = made.vision_model_output.last_hidden_state
            loss = loss + 3 * teacher.loss(hidden, [picture.things for picture in seen])
        descent.step(loss)
        with torch.no_grad():
            model.logit_scale.clamp_(max=log(100))
        if step % 50 == 49:
            print(f"step {step + 1}: contrastive loss {mean:.3f}")
    return model.eval(), CLIPProcessor(image_processor(), words)


def single_batches(seed: int) -> Iterator[tuple[list[Picture], list[str]]]:
    """Endless batches of one picture of every scene with one thing, with their captions."""
    random = default_rng(seed)
    scenes = [Scene(((colour, shape),), None) for colour in COLOURS for shape in SHAPES]
    while True:
        yield [draw(scene, random, SIDE) for scene in scenes], [scene.caption for scene in scenes]


def batches(seed: int, groups: int) -> Iterator[tuple[list[Picture], list[str]]]:
    """Endless batches of 4 · `groups` pictures with their captions, then as many captions that are true of none.

    A group is a scene with three of its neighbours; the captions that follow are neighbours too, one of each picture.
    All scenes of a batch are different.
    """
    random = default_rng(seed)
    while True:
        drawn: list[Scene] = []
        used: set[Scene] = set()
        while len(drawn) < 4 * groups:
            scene = random_scene(random, 1 if random.random() < 0.1 else 2)
            if scene not in used:
                used |= {scene, scene.turned}
                drawn += [scene, *(_neighbour(scene, used, random) for _ in range(3))]
        others = [_neighbour(scene, used, random) for scene in drawn]
        yield [draw(scene, random, SIDE) for scene in drawn], [scene.caption for scene in drawn + others]


def _neighbour(scene: Scene, used: set[Scene], random: Generator) -> Scene:
    """One that is not used yet, each respect being equally likely; told from either thing. It is used from now on."""
    free: dict[str, list[Scene]] = {}
    for respect, near in neighbours(scene):
        if near not in used:
            free.setdefault(respect, []).append(near)
    if not free:  # as good as any: it is false of all pictures, too
        return _neighbour(random_scene(random, 2), used, random)
    choices = list(free.values())[random.integers(len(free))]
    near = choices[random.integers(len(choices))]
    used |= {near, near.turned}
    return near.turned if random.random() < 0.5 else near
