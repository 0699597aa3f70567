"""Which architectures of transformers the engine accounts for in full: one sweep over tiny random models.

Run from the root of the repository: `python -m benchmarks.coverage`. Writes docs/coverage.md and
benchmarks/results/coverage.json; a model that fails does not stop the others.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub

import torch
import transformers
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.architectures import FLOAT32, TASKS, Task, names
from tests.wide.exceptions import NOT_BUILT, NOT_EXACT
from tests.wide.sweep import TOLERANCE, Outcome, Status, outcome

ROOT = Path(__file__).parents[1]
TITLES: dict[Task, str] = {
    "causal_lm": "causal language models",
    "masked_lm": "masked language models",
    "seq2seq_lm": "encoder-decoders",
    "sequence_classification": "sequence classifiers",
    "token_classification": "token classifiers",
    "image_classification": "image classifiers",
    "zero_shot_image_classification": "image-text dual encoders",
    "vision_language": "vision-language models, from raw pixels",
    "image_tower": "image encoders without a head",
}


def outcomes(tasks: list[Task], *, seconds: int) -> Iterator[Outcome]:
    """What became of each architecture of these tasks, as it is found out."""
    offered = [(task, model_type) for task in tasks for model_type in names(task)]
    columns = (TextColumn("{task.description:<40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("", total=len(offered))
        for task, model_type in offered:
            progress.update(bar, description=f"{task} {model_type}")
            yield outcome(task, model_type, seconds=seconds)
            progress.advance(bar)
            gc.collect()


def reason(result: Outcome) -> str:
    """Why an architecture is not exact, in words where they are known, else in those of the error."""
    key = (result.task, result.model_type)
    known = NOT_BUILT.get(key) or NOT_EXACT.get(key)
    messages = result.message.splitlines() or ["something is held constant where it is added"]
    return known or messages[0][:200].replace("|", "/")


def number(result: Outcome) -> str:
    """The residual, or what stands in its place."""
    return result.status if result.residual is None else f"{result.residual:.1e}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def of_status(results: list[Outcome], *statuses: Status) -> list[Outcome]:
    """Those results that have one of these statuses."""
    return [result for result in results if result.status in statuses]


HEADER = ["family", "offered", "built", "exact", "exact without constants", "largest residual of the exact"]


def families(results: list[Outcome]) -> list[list[str]]:
    """What became of each family, a line each."""
    lines = []
    for task in dict.fromkeys(result.task for result in results):
        here = [result for result in results if result.task == task]
        exact = of_status(here, "exact")
        largest = max((result.residual for result in exact if result.residual is not None), default=0.0)
        without = [result for result in exact if not result.needs_constants]
        counts = [len(here), len(here) - len(of_status(here, "not built")), len(exact), len(without)]
        lines.append([TITLES[task], *map(str, counts), f"{largest:.0e}"])
    return lines


def page(results: list[Outcome]) -> str:
    """The documentation page about a sweep."""
    exceptions = [
        [TITLES[result.task], f"`{result.model_type}`", number(result), reason(result)]
        for result in of_status(results, "not exact", "refused", "failed")
    ]
    not_built = [
        [TITLES[result.task], f"`{result.model_type}`", reason(result)] for result in of_status(results, "not built")
    ]
    unreached = [
        f"`{result.model_type}` ({TITLES[result.task]})"
        for result in of_status(results, "exact")
        if not result.reaches_inputs
    ]
    return f"""# Coverage

Which architectures of transformers {transformers.__version__} the engine accounts for in full (torch
{torch.__version__}). A tiny random model of each is built in float64 (float32: {", ".join(sorted(FLOAT32))}), its
largest logit is explained under CP-LRP, and what no line of the ledger accounts for is compared with the ledger's
largest amount. *Exact* means that this residual is below {TOLERANCE:g}. That is necessary for a right explanation, not
sufficient: it shows that no relevance was lost, not that it went to the right place (the equations written out for
Llama, GPT-2 and BERT in `tests/reference` show that). What depends on the inputs but is held constant where it is added
counts as lost. Relevance that ends in the model's own constants (learned queries, the means of batch norms, offsets)
balances the books too; one column counts the architectures that need no such line. RWKV and xLSTM run without their
cache, which they overwrite in place.

This page is written by `python -m benchmarks.coverage`; every number, with the lines of each ledger, is in
`benchmarks/results/coverage.json`.

{table(HEADER, families(results))}

## Exceptions

What is not exact, with its relative residual, or how it was refused.

{table(["family", "architecture", "residual", "reason"], exceptions)}

## Exact, but nothing arrives at tokens or pixels

The books balance, yet all relevance ends in biases, positions and constants: {", ".join(unreached) or "none"}.

## Not built

{table(["family", "architecture", "reason"], not_built)}
"""


def main() -> None:
    """Sweep, and write down what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", action="append", choices=TASKS, help="only this task; may be repeated")
    parser.add_argument("--seconds", type=int, default=60, help="longest time to build, and to explain, one model")
    parser.add_argument("--out", type=Path, default=ROOT, help="folder that holds docs/ and benchmarks/")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    warnings.simplefilter("ignore")
    results = list(outcomes(options.task or list(TASKS), seconds=options.seconds))
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    record = {"versions": versions, "tolerance": TOLERANCE, "outcomes": [asdict(result) for result in results]}
    write(options.out / "benchmarks" / "results" / "coverage.json", json.dumps(record, indent=1) + "\n")
    write(options.out / "docs" / "coverage.md", page(results))
    print(dict(Counter(result.status for result in results)))


def write(path: Path, text: str) -> None:
    """Put text into a file, with the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if __name__ == "__main__":
    main()
