"""`apportion explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from apportion.cli._app import app, errors_in_one_line, examples, note, waiting
from apportion.cli._options import (
    ASKED,
    SEEN,
    WHAT,
    Chat,
    ContrastNames,
    Device,
    Dtype,
    Features,
    Images,
    LayerMethods,
    MethodNames,
    ModelName,
    Place,
    Plugins,
    Positions,
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
    as_methods,
    as_place,
    as_regions,
    as_seen,
    as_target,
    loaded_explainer,
    method_by_default,
    prompt_of,
)
from apportion.cli._result import as_asked, check_outputs, print_json, print_reports, spacing_hints, write_files


@app.command(
    epilog=examples(
        'apportion explain -m demo "The capital of France is" -t " Paris" -c " London"',
        'apportion explain -m demo "The man who owns the dogs" --method attnlrp --method cp-lrp',
        "apportion explain -m ./my-model --file review.txt --features words --html review.html",
        "apportion explain -m ./my-vit --image cat.png --target tabby --html cat.html",
        'echo "Why is the sky blue?" | apportion explain -m demo --chat --json -',
    )
)
def explain(
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
    method: MethodNames = None,
    from_layer: LayerMethods = None,
    plugin: Plugins = None,
    regions: Regions = None,
    regions_mask: RegionsMask = None,
    features: Annotated[Features, typer.Option(help="What the shares go to.", rich_help_panel=ASKED)] = Features.TOKENS,
    positions: Annotated[
        Positions,
        typer.Option(
            help="Shares of learned position embeddings: apart, or added to their tokens.", rich_help_panel=ASKED
        ),
    ] = Positions.APART,
    html: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write a self-contained page.", rich_help_panel=SEEN)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write a figure: .png, .pdf or .svg.", rich_help_panel=SEEN)
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write safetensors for Attribution.load.", rich_help_panel=SEEN),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print JSON and nothing else; several methods by name.", rich_help_panel=SEEN),
    ] = False,
    quiet: Quiet = False,
    dtype: Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Divide a prediction among the tokens of a prompt and the patches of its images.

    The report shows each token's and patch's share of the target, and a ledger of all of it.
    Most tokens begin with a space, so a target is written with it: --target " Paris".
    """
    with errors_in_one_line():
        outputs = {name: path for name, path in (("html", html), ("plot", plot), ("save", save)) if path is not None}
        check_outputs(outputs, one_method=len(method or ()) < 2)
        said, images = prompt_of(text, file, image, chat=chat)
        asked = as_target(target, span, contrast=contrast, unit=unit, position=position)
        with waiting("importing torch and transformers", quiet=quiet):
            chosen = as_methods(method or ["attnlrp"], from_layer or [], plugin)
            divided = as_regions(regions, regions_mask)
        explainer = loaded_explainer(model, dtype=dtype, device=device, quiet=quiet)
        prompt = as_seen(said, images, explainer)
        if images and not (method or from_layer):
            default = method_by_default(explainer, divided)
            chosen = {default.name: default}
        with waiting("explaining", quiet=quiet):
            found = explainer.compare(
                prompt,
                regions=divided,
                methods=chosen,
                target=asked,
                contrast=contrast or None,
                unit=unit.value,
                position=as_place(position),
                progress=False,
            )
        for refusal in found.refused.values():
            raise refusal
        shown = {name: as_asked(attribution, features, positions) for name, attribution in found.items()}
        first = next(iter(shown.values()))
        write_files(first, outputs)
        if as_json:
            values = {name: attribution.to_dict() for name, attribution in shown.items()}
            print_json(first.to_dict() if len(values) == 1 else values)
        if quiet:
            return
        if not as_json:
            print_reports(list(shown.values()))
        for line in (
            *spacing_hints([*(target or ()), *(contrast or ())], first),
            *(f"wrote {p}" for p in outputs.values()),
        ):
            note(line)
