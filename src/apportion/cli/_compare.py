"""`apportion compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from apportion.cli._app import app, errors_in_one_line, examples, note, waiting
from apportion.cli._options import (
    ASKED,
    SEEN,
    WHAT,
    Chat,
    ContrastNames,
    Device,
    Dtype,
    ModelName,
    Place,
    Plugins,
    PromptFile,
    PromptText,
    SpanText,
    TargetNames,
    Unit,
)
from apportion.cli._request import as_place, as_prompt, as_target, load_plugins, loaded_explainer, prompt_text
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
            "May be repeated. Default: one of each kind.",
            rich_help_panel=ASKED,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Compare all methods.", rich_help_panel=ASKED)] = False,
    plugin: Plugins = None,
    html: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write a self-contained page.", rich_help_panel=SEEN)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write a figure: .png, .pdf or .svg.", rich_help_panel=SEEN)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.", rich_help_panel=SEEN)] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print no report and no notes.", rich_help_panel=SEEN)
    ] = False,
    dtype: Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Put methods side by side on one prediction: what each finds, what it takes, how far they agree.

    All share one forward pass. A method that cannot serve the model is listed with the reason.
    """
    with errors_in_one_line():
        outputs = {name: path for name, path in (("html", html), ("plot", plot)) if path is not None}
        check_outputs(outputs, one_method=True)
        prompt = as_prompt(prompt_text(text, file), chat=chat)
        asked = as_target(target, span, contrast=contrast, unit=unit, position=position)
        with waiting("importing torch and transformers", quiet=quiet):
            from apportion._explainer import COMPARED

            load_plugins(plugin)
        explainer = loaded_explainer(model, dtype=dtype, device=device, quiet=quiet)
        found = explainer.compare(
            prompt,
            methods="all" if every else method or COMPARED,
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
