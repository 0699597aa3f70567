"""`apportion pairs`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from apportion.cli._app import app, errors_in_one_line, examples, note, waiting
from apportion.cli._options import (
    ASKED,
    SEEN,
    WHAT,
    AsJson,
    Device,
    Dtype,
    Features,
    MethodName,
    ModelName,
    Plugins,
    Quiet,
    Regions,
    RegionsMask,
)
from apportion.cli._request import as_methods, as_pair, as_regions, loaded_explainer
from apportion.cli._result import check_outputs, print_json, write_files


class Pooling(StrEnum):
    """What is compared of each text or image, for an encoder of one of them."""

    MEAN = "mean"
    CLS = "cls"
    LAST = "last"
    POOLED = "pooled"


@app.command(
    epilog=examples(
        'apportion pairs -m ./MiniLM "A man is playing guitar" "Someone plays an instrument"',
        'apportion pairs -m ./clip --image cat.png "a cat on a sofa" --html cat.html',
        "apportion pairs -m ./dinov2 --image one.png --image other.png --regions 56",
    )
)
def pairs(
    model: ModelName,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="A text, or two.", show_default=False)
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(
            "--image",
            "-i",
            metavar="PATH",
            help="A picture file; give one beside a text, or two.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    pooling: Annotated[
        Pooling | None,
        typer.Option(
            help="Of an encoder of texts or of images. Default: as its folder says, else mean for texts and pooled "
            "for images.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    method: MethodName = None,
    plugin: Plugins = None,
    regions: Regions = None,
    regions_mask: RegionsMask = None,
    features: Annotated[Features, typer.Option(help="What the shares go to.", rich_help_panel=ASKED)] = Features.TOKENS,
    html: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write a self-contained page to point at.", rich_help_panel=SEEN),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write a figure: .png, .pdf or .svg.", rich_help_panel=SEEN)
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write safetensors for Pairwise.load.", rich_help_panel=SEEN),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    dtype: Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Divide the similarity of two texts, two images, or an image and a text among pairs of their parts.

    The report shows which word answers to which word or patch, and a ledger of all of it.
    """
    with errors_in_one_line():
        outputs = {name: path for name, path in (("html", html), ("plot", plot), ("save", save)) if path is not None}
        check_outputs(outputs, one_method=True)
        with waiting("importing torch and transformers", quiet=quiet):
            pair = as_pair(texts or (), image or ())
            chosen = None if method is None else next(iter(as_methods([method], [], plugin).values()))
            divided = as_regions(regions, regions_mask)
        explainer = loaded_explainer(
            model,
            dtype=dtype,
            device=device,
            quiet=quiet,
            pooling=None if pooling is None else pooling.value,
            encoder=True,
        )
        with waiting("explaining", quiet=quiet):
            found = explainer.explain_pairs(pair, method=chosen, regions=divided, features=features.value)
        write_files(found, outputs)
        if as_json:
            print_json(found.to_dict())
        if quiet:
            return
        if not as_json:
            Console(highlight=False).print(found)
        for path in outputs.values():
            note(f"wrote {path}")
