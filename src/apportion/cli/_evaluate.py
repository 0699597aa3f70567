"""`apportion evaluate`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

import apportion as ap
from apportion.cli._app import INTERRUPTED, note
from apportion.cli._command import command, given, how, output, running, what
from apportion.cli._method import AllMethods, names_in
from apportion.cli._model import Model
from apportion.cli._outputs import Outputs, check_path, finish, writing

#: The files in the folder beside the rows.
SUMMARY, PAGE = "summary.csv", "report.html"


@dataclass(frozen=True, kw_only=True)
class Kept(Outputs):
    """The outputs of an evaluation."""

    out: Annotated[
        Path | None,
        output(
            "--out",
            "-o",
            metavar="FOLDER",
            help=f"Keep the rows, {SUMMARY} and {PAGE} there; the same command continues where it stopped.",
        ),
    ] = None
    parquet: Annotated[
        Path | None, output("--parquet", metavar="PATH", help="Write a row for each item and method.")
    ] = None

    def check(self) -> None:
        """Reject a path that cannot be written before anything is computed."""
        super().check()
        if self.parquet is not None:
            check_path(self.parquet)

    def write(self, result: Any) -> list[Path]:
        """Write the files that were asked for, and return them."""
        from apportion.core import write_atomically

        found: ap.Evaluation = getattr(result, "evaluation", result)
        contents: dict[Path, str] = {}
        if self.out is not None:
            contents = {self.out / PAGE: result.to_html(), self.out / SUMMARY: found.summary().to_csv(index=False)}
        written = [] if self.out is None else [found.rows.path, *contents]
        with writing():
            for path, content in contents.items():
                write_atomically(path, content.encode())
            if self.parquet is not None:
                found.to_parquet(self.parquet)
                written.append(self.parquet)
        return [*written, *super().write(result)]


@command(
    "apportion evaluate -m demo --data agreement --limit 50",
    "apportion evaluate -m ./my-model --data texts.txt --methods attnlrp,cp-lrp,'shapley(budget=256)' --out run",
    "apportion evaluate -m ./my-model --data texts.txt --recommend",
)
def evaluate(
    model: Model,
    method: AllMethods,
    outputs: Kept,
    data: Annotated[
        str,
        what(
            "--data",
            metavar="NAME",
            help="agreement or qa, generated, also with options: 'agreement(attractors=2)'; blimp:PATH, "
            "lm-syneval:PATH, linzen:PATH or squad:PATH; a file of a text a line (.txt) or an item a line (.jsonl); "
            "or - for texts from standard input.",
        ),
    ],
    limit: Annotated[int | None, what("--limit", min=1, metavar="N", help="Measure at most so many items.")] = None,
    measure: Annotated[
        list[str] | None,
        how(
            "--measure",
            "--measures",
            metavar="NAMES",
            help="Such as perturbation-curves,ground-truth or, with options, 'perturbation-curves(steps=5)'. May be "
            "repeated. Default: those that any data allow, and ground-truth where the data tell it.",
        ),
    ] = None,
    masker: Annotated[
        str | None,
        how(
            "--masker",
            metavar="NAME",
            help="How tokens are removed: delete, attention-mask, replace, replace(TOKEN), zero or mean.",
        ),
    ] = None,
    recommend: Annotated[bool, how("--recommend", help="Say which method to trust for this model and data.")] = False,
    seed: Annotated[int | None, running("--seed", min=0, metavar="N", help="Of all that is drawn.")] = None,
) -> None:
    """Measure how faithful each method's explanations are, on data of your own, compared with a random order."""
    if masker is not None:
        ap.as_masker(masker)  # report a mistake before loading the model
    asked = given(
        methods=method.asked,
        measures=[ap.evaluation.as_measure(name) for name in names_in(measure)] or None,
        masker=masker,
        limit=limit,
        path=outputs.out,
        seed=seed,
    )
    explainer = model.explainer(quiet=outputs.quiet)
    with _going_on(outputs.out):
        if recommend:
            advice = explainer.recommend(data, **asked, progress=not outputs.quiet)
            told = {"recommended": advice.verdict}
            finish(advice, outputs, values=lambda: {**told, **advice.evaluation.to_dict()})
        else:
            found = explainer.evaluate(data, **asked, progress=not outputs.quiet)
            finish(found, outputs)


@contextmanager
def _going_on(out: Path | None) -> Iterator[None]:
    """Say how to continue after an interruption."""
    try:
        yield
    except KeyboardInterrupt as error:
        kept = "with --out, the rows would have been kept" if out is None else "run the same command again to go on"
        note(f"interrupted; {kept}")
        raise typer.Exit(INTERRUPTED) from error
