"""`apportion compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from apportion.cli._app import app, errors_in_one_line, examples, note, waiting
from apportion.cli._options import (
    ASKED,
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
    TargetNames,
    Unit,
)
from apportion.cli._request import (
    as_place,
    as_regions,
    as_seen,
    as_target,
    load_plugins,
    loaded_explainer,
    method_by_default,
    prompt_of,
)
from apportion.cli._result import check_outputs, print_json, spacing_hints, write_files


@app.command(
    epilog=examples(
        'apportion compare -m demo "The capital of France is" -t " Paris" -c " London"',
        "apportion compare -m ./my-model --file prompt.txt --method attnlrp --method 'shapley(budget=256)'",
        'apportion compare -m demo --all "The man who owns the dogs" --html all.html',
    )
)
def compare(
    model: ModelName,
    text: PromptText = None,
    file: PromptFile = None,
    image: Images = None,
    chat: Chat = False,
    target: TargetNames = None,
    contrast: ContrastNames = None,
    span: SpanText = None,
    unit: Annotated[Unit, typer.Option(help="What is read of an output.", rich_help_panel=WHAT)] = Unit.LOGIT,
    position: Place = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help="Such as attnlrp, or with options 'shapley(budget=256)'; 'apportion methods' lists all. "
            "May be repeated. Default: one of each kind, and res-lrp for what sees.",
            rich_help_panel=ASKED,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Compare all methods.", rich_help_panel=ASKED)] = False,
    plugin: Plugins = None,
    regions: Regions = None,
    regions_mask: RegionsMask = None,
    html: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write a self-contained page.", rich_help_panel=SEEN)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write a figure: .png, .pdf or .svg.", rich_help_panel=SEEN)
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    dtype: Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Put methods side by side on one prediction: what each finds, what it takes, how far they agree.

    All share one forward pass. A method that cannot serve the model is listed with the reason.
    """
    with errors_in_one_line():
        outputs = {name: path for name, path in (("html", html), ("plot", plot)) if path is not None}
        check_outputs(outputs, one_method=True)
        said, images = prompt_of(text, file, image, chat=chat)
        asked = as_target(target, span, contrast=contrast, unit=unit, position=position)
        with waiting("importing torch and transformers", quiet=quiet):
            from apportion.engine import COMPARED

            load_plugins(plugin)
            divided = as_regions(regions, regions_mask)
        explainer = loaded_explainer(model, dtype=dtype, device=device, quiet=quiet)
        prompt = as_seen(said, images, explainer)
        compared: Any = method or COMPARED
        if images and not method:
            default = method_by_default(explainer, divided)
            compared = {default.name: default, **{name: name for name in COMPARED}}
        found = explainer.compare(
            prompt,
            regions=divided,
            methods="all" if every else compared,
            target=asked,
            contrast=contrast or None,
            unit=unit.value,
            position=as_place(position),
            progress=not quiet,
        )
        write_files(found, outputs)
        if as_json:
            print_json(found.to_dict())
        if quiet:
            return
        if not as_json:
            Console(highlight=False).print(found)
        first = next(iter(found.values()))
        for line in (
            *spacing_hints([*(target or ()), *(contrast or ())], first),
            *(f"wrote {p}" for p in outputs.values()),
        ):
            note(line)
