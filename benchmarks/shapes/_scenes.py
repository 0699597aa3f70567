"""What a picture of shapes shows, in words: one or two coloured shapes and where they lie from each other."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from numpy.random import Generator

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = ("red", "green", "blue", "yellow", "purple")
INVERSE = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}
RELATIONS = tuple(INVERSE)
WORDS = ("a", *COLOURS, *SHAPES, "above", "below", "left", "right", "of")


@dataclass(frozen=True)
class Scene:
    """Colour and shape of one or two things that are not alike, and how the first lies as seen from the second."""

    things: tuple[tuple[str, str], ...]
    relation: str | None

    @property
    def caption(self) -> str:
        """E.g. "a red circle above a blue square"."""
        return f" {self.relation} ".join(f"a {colour} {shape}" for colour, shape in self.things)

    @property
    def turned(self) -> "Scene":
        """The same scene told from the other thing: "a blue square below a red circle"."""
        return self if self.relation is None else Scene(self.things[::-1], INVERSE[self.relation])

    def same(self, other: "Scene") -> bool:
        """Whether a picture of the one is a picture of the other."""
        return other in (self, self.turned)


def random_scene(random: Generator, things: int) -> Scene:
    """A scene with that many things, 1 or 2, each scene being equally likely."""
    numbers = random.choice(len(COLOURS) * len(SHAPES), size=things, replace=False).tolist()
    kinds = tuple((COLOURS[n % len(COLOURS)], SHAPES[n // len(COLOURS)]) for n in numbers)
    return Scene(kinds, RELATIONS[random.integers(len(RELATIONS))] if things == 2 else None)


def neighbours(scene: Scene) -> Iterator[tuple[str, Scene]]:
    """Scenes that differ from this one in one respect, each with the name of the respect.

    "relation": another of the four directions. "colour" and "shape": one thing has another one. "binding": the two
    things have exchanged their colours, so that all words stay and only their order tells the scenes apart.
    """
    for relation in RELATIONS if scene.relation else ():
        if relation != scene.relation:
            yield "relation", replace(scene, relation=relation)
    for k, (colour, shape) in enumerate(scene.things):
        kinds = [("colour", (c, shape)) for c in COLOURS if c != colour]
        kinds += [("shape", (colour, s)) for s in SHAPES if s != shape]
        for respect, kind in kinds:
            if kind not in scene.things:
                yield respect, replace(scene, things=(*scene.things[:k], kind, *scene.things[k + 1 :]))
    if len(scene.things) == 2:
        (one, first), (other, second) = scene.things
        if one != other and first != second:
            yield "binding", replace(scene, things=((other, first), (one, second)))
