"""`apportion pairs`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated

import typer

import apportion as ap
from apportion.cli._app import waiting
from apportion.cli._command import Options, command, given, how, what
from apportion.cli._method import Method
from apportion.cli._model import Model
from apportion.cli._outputs import Outputs, finish
from apportion.cli._prompt import Regions, opened, prompt_text
from apportion.core import ApportionError


class Features(StrEnum):
    """The parts of which pairs get shares."""

    TOKENS = "tokens"
    WORDS = "words"


class Pooling(StrEnum):
    """How each text or image is pooled into one encoding, by an encoder of one of them."""

    MEAN = "mean"
    CLS = "cls"
    LAST = "last"
    POOLED = "pooled"


@dataclass(frozen=True, kw_only=True)
class TextsOrImages(Options):
    """Two texts, two images, or one of each."""

    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="A text, or two.", show_default=False)] = (
        None
    )
    image: Annotated[
        list[Path] | None, what("--image", "-i", metavar="PATH", help="A picture file; give one beside a text, or two.")
    ] = None

    def check(self) -> None:
        """There must be two."""
        texts, images = len(self.texts or ()), len(self.image or ())
        if texts + images != 2:
            raise ApportionError(
                f"a pair is two texts, two images, or one of each; {texts} texts and {images} images were given."
            )

    def resolve(self) -> None:
        """Images must be pictures."""
        _ = self.pair

    @cached_property
    def pair(self) -> ap.Pair:
        """Both, as the library takes them; an image comes first."""
        images, texts = map(opened, self.image or ()), (prompt_text(text, None) for text in self.texts or ())
        return ap.Pair(*images, *texts)


@command(
    'apportion pairs -m ./MiniLM "A man is playing guitar" "Someone plays an instrument"',
    'apportion pairs -m ./clip --image cat.png "a cat on a sofa" --html cat.html',
    "apportion pairs -m ./dinov2 --image one.png --image other.png --regions 56",
)
def pairs(
    model: Model,
    both: TextsOrImages,
    method: Method,
    regions: Regions,
    outputs: Outputs,
    pooling: Annotated[
        Pooling | None,
        what(
            "--pooling",
            help="Of an encoder of texts or of images. Default: as its folder says, else mean for texts and pooled "
            "for images.",
        ),
    ] = None,
    features: Annotated[
        Features | None, how("--features", help="The parts of which pairs get shares. Default: tokens.")
    ] = None,
) -> None:
    """Divide the similarity of two texts, two images, or an image and a text among pairs of their parts.

    The report shows which word answers to which word or patch, and a ledger of all of it.
    """
    explainer = model.explainer(quiet=outputs.quiet, pooling=pooling, encoder=True)
    with waiting("explaining", quiet=outputs.quiet):
        found = explainer.explain_pairs(both.pair, method=method.chosen, **given(features=features), **regions.options)
    finish(found, outputs)
