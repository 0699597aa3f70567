"""The outputs of a result: files, written whole or not at all, and the terminal."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from apportion.cli._app import note
from apportion.cli._command import Options, given, output
from apportion.core import ApportionError

FIGURES = (".png", ".pdf", ".svg")


@dataclass(frozen=True, kw_only=True)
class Printed(Options):
    """What is printed."""

    as_json: Annotated[bool, output("--json", help="Print JSON and nothing else.")] = False
    quiet: Annotated[bool, output("--quiet", "-q", help="Print no report and no notes.")] = False

    def write(self, result: Any) -> list[Path]:
        """Write the files of a result: none."""
        return []


@dataclass(frozen=True, kw_only=True)
class Outputs(Printed):
    """All outputs of a result."""

    html: Annotated[Path | None, output("--html", metavar="PATH", help="Write a self-contained page.")] = None
    plot: Annotated[Path | None, output("--plot", metavar="PATH", help="Write a figure: .png, .pdf or .svg.")] = None
    save: Annotated[
        Path | None, output("--save", metavar="PATH", help="Keep the result for its load, such as Attribution.load.")
    ] = None

    @property
    def files(self) -> dict[str, Path]:
        """The files that are written, by the names of their options."""
        return given(html=self.html, plot=self.plot, save=self.save)

    def check(self) -> None:
        """Reject a path that cannot be written before anything is computed."""
        for path in self.files.values():
            check_path(path)
        plot = self.files.get("plot")
        if plot is not None and plot.suffix.lower() not in FIGURES:
            raise ApportionError(f"cannot draw {str(plot)!r}: a figure's name ends in {', '.join(FIGURES)}.")

    def write(self, result: Any) -> list[Path]:
        """Write each file whole, and return them; all are drawn before the first is written."""
        from apportion.core import write_atomically

        contents: dict[Path, bytes] = {}
        if "html" in self.files:
            contents[self.files["html"]] = result.to_html().encode()
        if "plot" in self.files:
            drawn = io.BytesIO()
            result.plot().savefig(drawn, format=self.files["plot"].suffix[1:].lower(), dpi=160)
            contents[self.files["plot"]] = drawn.getvalue()
        with writing():
            for path, content in contents.items():
                write_atomically(path, content)
            if "save" in self.files:
                result.save(self.files["save"])
        return list(self.files.values())


def finish(
    result: Any,
    outputs: Printed,
    *,
    shown: Any = None,
    values: Callable[[], Any] | None = None,
    notes: Iterable[str] = (),
) -> None:
    """Write a result's files and print it: the end of every command.

    Args:
        result: What was found.
        outputs: Where it goes.
        shown: What is printed in its place.
        values: Gives what `--json` prints, in place of the result's `to_dict`.
        notes: Lines for standard error.
    """
    written = outputs.write(result)
    if outputs.as_json:
        print_json((values or result.to_dict)())
    if outputs.quiet:
        return
    if not outputs.as_json:
        Console(highlight=False).print(result if shown is None else shown)
    for line in (*notes, *(f"wrote {path}" for path in written)):
        note(line)


def print_json(values: Any) -> None:
    typer.echo(json.dumps(values, indent=2, allow_nan=False))


def check_path(path: Path) -> None:
    """Reject a path that cannot be written."""
    if not path.parent.is_dir():
        raise ApportionError(f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}.")
    if path.is_dir():
        raise ApportionError(f"cannot write {str(path)!r}: it is a folder; name a file in it.")
    if not os.access(path.parent, os.W_OK):
        raise ApportionError(f"cannot write {str(path)!r}: no permission to write in {str(path.parent)!r}.")


@contextmanager
def writing() -> Iterator[None]:
    """Say in one line what could not be written."""
    try:
        yield
    except OSError as error:
        raise ApportionError(f"cannot write {error.filename!r}: {error.strerror}.") from error
