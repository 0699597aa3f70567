"""`apportion explain`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Annotated

from rich.console import Group, RenderableType

import apportion as ap
from apportion.cli._app import waiting
from apportion.cli._command import command, how
from apportion.cli._method import Layers, Methods, default_for
from apportion.cli._model import Model
from apportion.cli._outputs import Outputs, finish
from apportion.cli._prompt import Prompt, Regions
from apportion.cli._target import Target
from apportion.core import ApportionError


class Features(StrEnum):
    """The parts of a prompt that get shares."""

    TOKENS = "tokens"
    WORDS = "words"
    SENTENCES = "sentences"
    PARAGRAPHS = "paragraphs"


class Positions(StrEnum):
    """How shares of position embeddings are shown."""

    APART = "apart"
    ADDED = "added"


@command(
    'apportion explain -m demo "The capital of France is" -t " Paris" -c " London"',
    'apportion explain -m demo "The man who owns the dogs" --method attnlrp --method cp-lrp',
    "apportion explain -m ./my-model --file review.txt --features words --html review.html",
    "apportion explain -m ./my-vit --image cat.png --target tabby --html cat.html",
    'echo "Why is the sky blue?" | apportion explain -m demo --chat --json -',
)
def explain(
    model: Model,
    prompt: Prompt,
    target: Target,
    method: Methods,
    layers: Layers,
    regions: Regions,
    outputs: Outputs,
    features: Annotated[
        Features | None, how("--features", help="The parts of a prompt that get shares. Default: tokens.")
    ] = None,
    positions: Annotated[
        Positions | None,
        how(
            "--positions",
            help="Shares of learned position embeddings: apart, or added to their tokens. Default: apart.",
        ),
    ] = None,
) -> None:
    """Divide a prediction among the tokens of a prompt and the patches of its images.

    The report shows each token's and patch's share of the target, and a ledger of all of it.
    Most tokens begin with a space, so a target is written with it: --target " Paris".
    With several methods, --json holds their results by name.
    """
    if outputs.files and len(method.named) > 1:
        raise ApportionError(
            f"--{next(iter(outputs.files))} takes one method; with several, print the report or --json."
        )
    explainer = model.explainer(quiet=outputs.quiet)
    asked = prompt.fitting(explainer)
    named = method.named or default_for(explainer, asked, **regions.options)
    methods = [layers.over(one) for one in named.values()] if layers.from_layer else named
    with waiting("explaining", quiet=outputs.quiet):
        compared = explainer.compare(asked, methods=methods, **regions.options, **target.options, progress=False)
    for refusal in compared.refused.values():
        raise refusal
    found = {name: _in_parts(one, features, positions) for name, one in compared.items()}
    first = next(iter(found.values()))
    several = len(found) > 1
    finish(
        first,
        outputs,
        shown=Group(*_apart(found.values())) if several else None,
        values=(lambda: {name: one.to_dict() for name, one in found.items()}) if several else None,
        notes=target.hints(first),
    )


def _in_parts(found: ap.Attribution, features: Features | None, positions: Positions | None) -> ap.Attribution:
    if positions is Positions.ADDED:
        found = found.with_positions()
    return found if features is None else found.grouped(features.value)


def _apart(found: Iterable[ap.Attribution]) -> Iterator[RenderableType]:
    """Reports, separated by empty lines."""
    for i, attribution in enumerate(found):
        yield from ("", attribution) if i else (attribution,)
