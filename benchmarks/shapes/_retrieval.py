"""How well a CLIP tells pictures of shapes by their captions."""

from collections.abc import Sequence

import torch
from transformers import CLIPModel, CLIPProcessor

from benchmarks.shapes._pictures import Picture, pictures
from benchmarks.shapes._scenes import Scene, neighbours

HELD_OUT = 1_000_000  # a seed that no training uses


def held_out(count: int, seed: int = HELD_OUT) -> list[Picture]:
    """Pictures of `count` different scenes with one and two things, at 64 × 64."""
    found: list[Picture] = []
    used: set[Scene] = set()
    for picture in pictures(10 * count, seed):
        if picture.scene not in used:
            used |= {picture.scene, picture.scene.turned}
            found.append(picture)
        if len(found) == count:
            return found
    raise ValueError(f"there are fewer than {count} different scenes to be had")


@torch.no_grad()
def retrieval_accuracy(model: CLIPModel, processor: CLIPProcessor, shown: Sequence[Picture]) -> tuple[float, float]:
    """Parts of the pictures whose own caption is the nearest of all, and of the captions whose own picture is."""
    logits = _logits(model, processor, shown, [picture.caption for picture in shown])
    own = torch.arange(len(shown))
    return (logits.argmax(1) == own).double().mean().item(), (logits.argmax(0) == own).double().mean().item()


@torch.no_grad()
def choice_accuracy(
    model: CLIPModel, processor: CLIPProcessor, shown: Sequence[Picture]
) -> dict[str, tuple[float, int]]:
    """How often a picture is nearer to its caption than to all that are false in one respect, and of how many.

    The respects are those of `neighbours`. "turned" is how often the caption told from the other thing, which is as
    true, is nearer than all false ones.
    """
    right: dict[str, list[bool]] = {}
    for picture in shown:
        scene = picture.scene
        near = list(neighbours(scene))
        captions = [scene.caption, scene.turned.caption, *(other.caption for _, other in near)]
        own, turned, *false = _logits(model, processor, [picture], captions)[0].tolist()
        for respect in dict.fromkeys(respect for respect, _ in near):
            best = max(logit for logit, (about, _) in zip(false, near, strict=True) if about == respect)
            right.setdefault(respect, []).append(own > best)
        if scene.relation:
            right.setdefault("turned", []).append(turned > max(false))
    return {respect: (sum(found) / len(found), len(found)) for respect, found in right.items()}


def _logits(
    model: CLIPModel, processor: CLIPProcessor, shown: Sequence[Picture], captions: Sequence[str]
) -> torch.Tensor:
    """(picture, caption) scaled cosines."""
    images = [picture.image for picture in shown]
    inputs = processor(images=images, text=list(captions), padding=True, return_tensors="pt")
    return model(**inputs).logits_per_image
