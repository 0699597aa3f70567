"""`apportion interactions`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.console import Console

from apportion.cli._app import app, errors_in_one_line, examples, note, waiting
from apportion.cli._options import (
    ASKED,
    RUN,
    SEEN,
    WHAT,
    AsJson,
    Chat,
    ContrastNames,
    Device,
    Dtype,
    Images,
    ModelName,
    Place,
    Plugins,
    PromptFile,
    PromptText,
    Quiet,
    Regions,
    RegionsMask,
    SpanText,
    Unit,
)
from apportion.cli._request import (
    as_place,
    as_regions,
    as_seen,
    as_target,
    load_plugins,
    loaded_explainer,
    prompt_of,
)
from apportion.cli._result import check_outputs, print_json, write_files
from apportion.core import ApportionError

#: Names that are no texts of the prompt.
GROUPS = ("auto", "players", "features", "tokens", "patches", "words", "sentences", "paragraphs")


class Index(StrEnum):
    """Which second order; all but the metagame have no direction, and are there to compare."""

    METAGAME = "metagame"
    SHAPLEY_TAYLOR = "shapley-taylor"
    SHAPLEY_INTERACTION = "shapley-interaction"
    INTEGRATED_HESSIANS = "integrated-hessians"
    FIRST_ORDER_PAIRS = "first-order-pairs"


@app.command(
    epilog=examples(
        'apportion interactions -m demo "The keys to the cabinet" -t " are" -c " is"',
        'apportion interactions -m demo "The movie was not bad" -t " good" --players words --html movie.html',
        'apportion interactions -m ./clip -i cat.png "a cat on a sofa" --html cat.html',
        'apportion interactions -m demo --chat "Name a colour." --span "Blue" --budget 512 --save colour.safetensors',
    )
)
def interactions(
    model: ModelName,
    text: PromptText = None,
    file: PromptFile = None,
    image: Images = None,
    chat: Chat = False,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            "-t",
            metavar="NAME",
            help="A token or class, with its leading space. Default: the most likely.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    contrast: ContrastNames = None,
    span: SpanText = None,
    unit: Annotated[Unit, typer.Option(help="What is read of an output.", rich_help_panel=WHAT)] = Unit.LOGIT,
    position: Place = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help="Whose attributions are moved, such as attnlrp or 'integrated-gradients(steps=20)'. Default: attnlrp, "
            "and res-lrp for what sees.",
            rich_help_panel=ASKED,
        ),
    ] = None,
    index: Annotated[
        Index,
        typer.Option(help="Which second order; the others have no direction.", rich_help_panel=ASKED),
    ] = Index.METAGAME,
    plugin: Plugins = None,
    players: Annotated[
        list[str] | None,
        typer.Option(
            "--players",
            metavar="WHO",
            help="Who moves others: tokens, words, sentences, patches, or a text of the prompt; texts may be repeated. "
            "Default: tokens; the words of a caption.",
            rich_help_panel=ASKED,
        ),
    ] = None,
    of: Annotated[
        list[str] | None,
        typer.Option(
            "--of",
            metavar="WHOM",
            help="Whose attribution is moved: players, features (all), patches, words, sentences, or texts of the "
            "prompt. Default: players; the patches beside a caption.",
            rich_help_panel=ASKED,
        ),
    ] = None,
    masker: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How players are made absent, such as delete, mean or replace(TOKEN). Default: by the mask token, or "
            "else the mean embedding.",
            rich_help_panel=ASKED,
        ),
    ] = "auto",
    regions: Regions = None,
    regions_mask: RegionsMask = None,
    estimator: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How coalitions are chosen: auto, exact (all), regression, tree-proxy or permutations.",
            rich_help_panel=ASKED,
        ),
    ] = "auto",
    budget: Annotated[
        str,
        typer.Option(
            metavar="N", help="Coalitions at most; auto for as many as the tolerance needs.", rich_help_panel=ASKED
        ),
    ] = "auto",
    tolerance: Annotated[
        float,
        typer.Option(
            metavar="X",
            help="The standard error that --budget auto stops at, as a part of the values.",
            rich_help_panel=ASKED,
        ),
    ] = 0.1,
    order: Annotated[
        int,
        typer.Option(
            min=2,
            max=3,
            metavar="N",
            help="2, or 3 to add the third order for at most 10 players.",
            rich_help_panel=ASKED,
        ),
    ] = 2,
    words: Annotated[
        bool, typer.Option("--words", help="Sum the values into words afterwards.", rich_help_panel=ASKED)
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write a self-contained page to point at.", rich_help_panel=SEEN),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write a figure: .png, .pdf or .svg.", rich_help_panel=SEEN)
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write safetensors for Interactions.load.", rich_help_panel=SEEN),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    path: Annotated[
        Path | None,
        typer.Option(
            "--path",
            metavar="FILE",
            help="Keep what is computed there; the same command goes on with it, and a larger budget adds to it.",
            rich_help_panel=RUN,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of all that is drawn.", rich_help_panel=RUN)] = 0,
    dtype: Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Show how each part of a prompt moves the attribution of each other part.

    The attribution of every part is computed again with others absent, and divided among them: the metagame.
    """
    with errors_in_one_line():
        outputs = {name: path for name, path in (("html", html), ("plot", plot), ("save", save)) if path is not None}
        check_outputs(outputs, one_method=True)
        said, images = prompt_of(text, file, image, chat=chat)
        asked = as_target(None if target is None else [target], span, contrast=contrast, unit=unit, position=position)
        at_most = _budget(budget)
        with waiting("importing torch and transformers", quiet=quiet):
            from apportion.metagame import Game

            load_plugins(plugin)
            _check_estimator(estimator)
            divided = as_regions(regions, regions_mask)
        explainer = loaded_explainer(model, dtype=dtype, device=device, quiet=quiet)
        found = explainer.interactions(
            as_seen(said, images, explainer),
            target=asked,
            contrast=contrast or None,
            method=method,
            index=index.value,
            unit=unit.value,
            position=as_place(position),
            regions=divided,
            of=_parts(of),
            game=Game(
                players=_parts(players),
                masker=masker,
                estimator=estimator,
                budget=at_most,
                tolerance=tolerance,
                order=order,
                seed=seed,
                path=path,
            ),
            progress=not quiet,
        )
        if words:
            found = found.words()
        write_files(found, outputs)
        if as_json:
            print_json(found.to_dict())
        if quiet:
            return
        if not as_json:
            Console(highlight=False).print(found)
        for path in outputs.values():
            note(f"wrote {path}")


def _budget(budget: str) -> int | str:
    if budget != "auto" and not budget.isdecimal():
        raise ApportionError(f"--budget {budget!r} is no number of coalitions; give one, such as 512, or auto.")
    return int(budget) if budget.isdecimal() else budget


def _check_estimator(estimator: str) -> None:
    from apportion.metagame import Estimator

    if estimator not in get_args(Estimator):
        raise ApportionError(f"--estimator {estimator!r} is not known; use {', '.join(get_args(Estimator))}.")


def _parts(given: Sequence[str] | None) -> Any:
    """The name of a kind of parts, or texts of the prompt."""
    if not given:
        return "auto"
    return given[0] if len(given) == 1 and given[0] in GROUPS else list(given)
