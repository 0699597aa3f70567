"""Where the result goes: files, written whole or not at all, and reports."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from apportion.cli._options import Features, Positions
from apportion.core import ApportionError

if TYPE_CHECKING:
    import apportion

# A token with a space in front is another token; this much more likely, it is probably the one that was meant.
LIKELIER = 10
FIGURES = (".png", ".pdf", ".svg")


def as_asked(attribution: apportion.Attribution, features: Features, positions: Positions) -> apportion.Attribution:
    if positions is Positions.ADDED:
        attribution = attribution.with_positions()
    return attribution.words() if features is Features.WORDS else attribution


def check_outputs(outputs: dict[str, Path], *, one_method: bool) -> None:
    """Refuse a path that cannot be written before anything is computed."""
    if outputs and not one_method:
        raise ApportionError(f"--{next(iter(outputs))} takes one method; with several, print the report or --json.")
    for path in outputs.values():
        if not path.parent.is_dir():
            raise ApportionError(f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}.")
        if path.is_dir():
            raise ApportionError(f"cannot write {str(path)!r}: it is a folder; name a file in it.")
        if not os.access(path.parent, os.W_OK):
            raise ApportionError(f"cannot write {str(path)!r}: no permission to write in {str(path.parent)!r}.")
    plot = outputs.get("plot")
    if plot is not None and plot.suffix.lower() not in FIGURES:
        raise ApportionError(f"cannot draw {str(plot)!r}: a figure's name ends in {', '.join(FIGURES)}.")


def write_files(
    result: apportion.Attribution | apportion.Comparison | apportion.Interactions | apportion.Pairwise,
    outputs: dict[str, Path],
) -> None:
    """Write each file whole; all are drawn before the first is written."""
    from apportion.core import write_atomically
    from apportion.results import Comparison

    contents: dict[Path, bytes] = {}
    if "html" in outputs:
        contents[outputs["html"]] = result.to_html().encode()
    if "plot" in outputs:
        drawn = io.BytesIO()
        result.plot().savefig(drawn, format=outputs["plot"].suffix[1:].lower(), dpi=160)
        contents[outputs["plot"]] = drawn.getvalue()
    try:
        for path, content in contents.items():
            write_atomically(path, content)
        if "save" in outputs and not isinstance(result, Comparison):
            result.save(outputs["save"])
    except OSError as error:
        raise ApportionError(f"cannot write {error.filename!r}: {error.strerror}.") from error


def spacing_hints(given: Sequence[str], attribution: apportion.Attribution) -> Iterator[str]:
    """For a token typed without its leading space: that the one with the space was the likely one."""
    probabilities = dict(attribution.prediction)
    explained = " ".join(target.label for target in attribution.explained)
    for name in given:
        spaced = f" {name}"
        # Some tokenizers add the space themselves; then the quoted name is not what was explained.
        if probabilities.get(spaced, 0) > LIKELIER * probabilities.get(name, 0) and f'"{name}"' in explained:
            yield (
                f'hint: "{name}" was explained; "{spaced}", with a space in front, is another token, predicted with '
                f"{100 * probabilities[spaced]:.1f}%."
            )


def print_reports(attributions: Sequence[apportion.Attribution]) -> None:
    console = Console(highlight=False)
    for i, attribution in enumerate(attributions):
        if i:
            console.print()
        console.print(attribution)


def print_json(values: Any) -> None:
    typer.echo(json.dumps(values, indent=2, allow_nan=False))
