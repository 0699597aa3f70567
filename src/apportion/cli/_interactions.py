"""`apportion interactions`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import apportion as ap
from apportion.cli._command import Options, command, given, how, running
from apportion.cli._method import Method
from apportion.cli._model import Model
from apportion.cli._outputs import Outputs, finish
from apportion.cli._prompt import Prompt, Regions
from apportion.cli._target import Target
from apportion.core import ApportionError


class Index(StrEnum):
    """The second-order index; all but the metagame are undirected, for comparison."""

    METAGAME = "metagame"
    SHAPLEY_TAYLOR = "shapley-taylor"
    SHAPLEY_INTERACTION = "shapley-interaction"
    INTEGRATED_HESSIANS = "integrated-hessians"
    FIRST_ORDER_PAIRS = "first-order-pairs"


@dataclass(frozen=True, kw_only=True)
class Rules(Options):
    """How the game is played, as `ap.Game` takes it."""

    players: Annotated[
        list[str] | None,
        how(
            "--players",
            metavar="PARTS",
            help="The parts that are removed: tokens, words, sentences, paragraphs, patches, or a text of the prompt; "
            "texts may be repeated. Default: tokens; the words of a caption.",
        ),
    ] = None
    masker: Annotated[
        str | None,
        how(
            "--masker",
            metavar="NAME",
            help="How they are removed, such as delete, mean or replace(TOKEN). Default: by the mask token, or else "
            "the mean embedding.",
        ),
    ] = None
    estimator: Annotated[
        str | None,
        how(
            "--estimator",
            metavar="NAME",
            help="How coalitions are chosen: auto, exact (all), regression, tree-proxy or permutations.",
        ),
    ] = None
    budget: Annotated[
        str | None,
        how("--budget", metavar="N", help="Coalitions at most; auto, the default, for as many as the tolerance needs."),
    ] = None
    tolerance: Annotated[
        float | None,
        how(
            "--tolerance",
            metavar="X",
            help="The standard error that --budget auto stops at, as a part of the values. Default: 0.1.",
        ),
    ] = None
    order: Annotated[
        int | None,
        how("--order", min=2, max=3, metavar="N", help="3 to add the third order for at most 10 players. Default: 2."),
    ] = None
    path: Annotated[
        Path | None,
        running(
            "--path",
            metavar="FILE",
            help="Cache results in this file; the same command continues, and a larger budget adds to it.",
        ),
    ] = None
    seed: Annotated[int | None, running("--seed", min=0, metavar="N", help="Of all that is drawn.")] = None

    def check(self) -> None:
        """A budget must be a number or auto."""
        if self.budget not in (None, "auto") and not str(self.budget).isdecimal():
            raise ApportionError(f"--budget {self.budget!r} is no number of coalitions; give one such as 512, or auto.")

    def resolve(self) -> None:
        """An estimator must be one of the library's."""
        known = get_args(ap.metagame.Estimator)
        if self.estimator not in (None, *known):
            raise ApportionError(f"--estimator {self.estimator!r} is not known; use {', '.join(known)}.")

    @property
    def game(self) -> ap.Game:
        """These rules; the library's defaults for those that were not given."""
        budget = int(self.budget) if self.budget and self.budget.isdecimal() else self.budget
        return ap.Game(**given(**{**vars(self), "players": parts(self.players), "budget": budget}))


@command(
    'apportion interactions -m demo "The keys to the cabinet" -t " are" -c " is"',
    'apportion interactions -m demo "The movie was not bad" -t " good" --players words --html movie.html',
    'apportion interactions -m ./clip -i cat.png "a cat on a sofa" --html cat.html',
    'apportion interactions -m demo --chat "Name a colour." --span "Blue" --budget 512 --save colour.safetensors',
)
def interactions(
    model: Model,
    prompt: Prompt,
    target: Target,
    method: Method,
    rules: Rules,
    regions: Regions,
    outputs: Outputs,
    index: Annotated[
        Index | None, how("--index", help="Which second order; the others have no direction. Default: metagame.")
    ] = None,
    of: Annotated[
        list[str] | None,
        how(
            "--of",
            metavar="PARTS",
            help="The parts whose attribution is explained: players, features (all), or parts as --players takes them. "
            "Default: players; the patches beside a caption.",
        ),
    ] = None,
    words: Annotated[bool, how("--words", help="Sum the values into words afterwards.")] = False,
) -> None:
    """Show how each part of a prompt changes the attribution of each other part.

    The attribution of every part is recomputed with others removed, and divided among them: the metagame.
    """
    explainer = model.explainer(quiet=outputs.quiet)
    found = explainer.interactions(
        prompt.fitting(explainer),
        method=method.chosen,
        game=rules.game,
        **given(index=index, of=parts(of)),
        **regions.options,
        **target.options,
        progress=not outputs.quiet,
    )
    finish(found.words() if words else found, outputs)


def parts(named: Sequence[str] | None) -> Any:
    """The name of a kind of parts, or texts of the prompt; None if neither is given."""
    literals = (choice for choice in get_args(ap.metagame.AnyOf) if get_origin(choice) is Literal)
    kinds = [name for literal in literals for name in get_args(literal)]
    return named[0] if named and len(named) == 1 and named[0] in kinds else named or None
