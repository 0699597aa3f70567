"""`apportion evaluate`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from apportion.cli._app import INTERRUPTED, app, errors_in_one_line, examples, note, waiting
from apportion.cli._options import ASKED, RUN, SEEN, WHAT, AsJson, Device, Dtype, ModelName, Plugins, Quiet
from apportion.cli._request import load_plugins, loaded_explainer
from apportion.cli._result import check_outputs, print_json
from apportion.core import ApportionError

if TYPE_CHECKING:
    import apportion.evaluation

#: What stands in the folder beside the rows.
SUMMARY, PAGE = "summary.csv", "report.html"
# A comma that no parenthesis encloses.
BETWEEN = re.compile(r",(?![^(]*\))")


@app.command(
    epilog=examples(
        "apportion evaluate -m demo --data agreement --limit 50",
        "apportion evaluate -m ./my-model --data texts.txt --methods attnlrp,cp-lrp,'shapley(budget=256)' --out run",
        "apportion evaluate -m ./my-model --data texts.txt --recommend",
    )
)
def evaluate(
    model: ModelName,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="NAME",
            help="agreement or qa, generated, also with options: 'agreement(attractors=2)'; blimp:PATH, "
            "lm-syneval:PATH, linzen:PATH or squad:PATH; a file of a text a line (.txt) or an item a line (.jsonl); "
            "or - for texts from standard input.",
            rich_help_panel=WHAT,
        ),
    ],
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Measure at most so many items.", rich_help_panel=WHAT)
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "--methods",
            metavar="NAMES",
            help="Such as attnlrp,cp-lrp or, with options, 'shapley(budget=256)'; 'apportion methods' lists all. "
            "May be repeated. Default: one of each kind.",
            rich_help_panel=ASKED,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Measure all methods.", rich_help_panel=ASKED)] = False,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            "--measure",
            "--measures",
            metavar="NAMES",
            help="Such as perturbation-curves,ground-truth or, with options, 'perturbation-curves(steps=5)'. May be "
            "repeated. Default: those that any data allow, and ground-truth where the data tell it.",
            rich_help_panel=ASKED,
        ),
    ] = None,
    masker: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How tokens are made absent: delete, attention-mask, replace, replace(TOKEN), zero or mean.",
            rich_help_panel=ASKED,
        ),
    ] = "auto",
    plugin: Plugins = None,
    recommend: Annotated[
        bool,
        typer.Option("--recommend", help="Say which method to trust for this model and data.", rich_help_panel=ASKED),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help=f"Keep the rows, {SUMMARY} and {PAGE} there; the same command goes on with what is there.",
            rich_help_panel=SEEN,
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write a self-contained page.", rich_help_panel=SEEN)
    ] = None,
    parquet: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write a row for each item and method.", rich_help_panel=SEEN),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of all that is drawn.", rich_help_panel=RUN)] = 0,
    dtype: Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Measure how far each method's explanations may be believed, on data of your own, beside a random order."""
    with errors_in_one_line():
        outputs = {name: path for name, path in (("html", html), ("parquet", parquet)) if path is not None}
        check_outputs(outputs, one_method=True)
        with waiting("importing torch and transformers", quiet=quiet):
            from apportion.engine import COMPARED, MEASURED
            from apportion.evaluation import as_measure
            from apportion.games import as_masker
            from apportion.methods import as_method

            load_plugins(plugin)
        methods: Any = "all" if every else _names(method)
        measures = [as_measure(name) for name in _names(measure)]
        # A mistake is answered before the model is loaded.
        for name in () if every else methods:
            as_method(name)
        as_masker(masker)
        asked: dict[str, Any] = {"masker": masker, "seed": seed, "path": out, "progress": not quiet}
        explainer = loaded_explainer(model, dtype=dtype, device=device, quiet=quiet)
        with _going_on(out):
            if recommend:
                shown: Any = explainer.recommend(
                    data,
                    methods=methods or None,
                    measures=measures or None,
                    **asked if limit is None else {**asked, "limit": limit},
                )
                found: apportion.evaluation.Evaluation = shown.evaluation
            else:
                shown = found = explainer.evaluate(
                    data, methods=methods or COMPARED, measures=measures or MEASURED, limit=limit, **asked
                )
        written = _write(found, out, outputs)
        if as_json:
            print_json({**({"recommended": shown.verdict} if recommend else {}), **found.to_dict()})
        if quiet:
            return
        if not as_json:
            Console(highlight=False).print(shown)
        for path in written:
            note(f"wrote {path}")


def _names(given: Sequence[str] | None) -> list[str]:
    """The names in options that may hold several."""
    return [name for one in given or () for part in BETWEEN.split(one) if (name := part.strip())]


@contextmanager
def _going_on(out: Path | None) -> Iterator[None]:
    """Say how to go on after an interruption."""
    try:
        yield
    except KeyboardInterrupt as error:
        kept = "with --out, the rows would have been kept" if out is None else "run the same command again to go on"
        note(f"interrupted; {kept}")
        raise typer.Exit(INTERRUPTED) from error


def _write(found: apportion.evaluation.Evaluation, out: Path | None, outputs: dict[str, Path]) -> list[Path]:
    """Write what was asked for; which files these are."""
    from apportion.core import write_atomically

    contents: dict[Path, str] = {}
    if "html" in outputs:
        contents[outputs["html"]] = found.to_html()
    if out is not None:
        contents[out / PAGE] = found.to_html()
        contents[out / SUMMARY] = found.summary().to_csv(index=False)
    try:
        for path, content in contents.items():
            write_atomically(path, content.encode())
        if "parquet" in outputs:
            found.to_parquet(outputs["parquet"])
    except OSError as error:
        raise ApportionError(f"cannot write {error.filename!r}: {error.strerror}.") from error
    rows = [] if out is None else [found.rows.path]
    return [*rows, *contents, *(path for name, path in outputs.items() if name == "parquet")]
