"""Time of leave-one-out with prefix reuse against reading every changed prompt whole.

    python benchmarks/leave_one_out_speed.py                  # n = 256, about a quarter of an hour on two cores
    python benchmarks/leave_one_out_speed.py --n 64 --quick   # one round; prints, writes nothing

The model is a 12-layer Llama with random frozen weights in float32 (`_llama.py`); each token of a prompt of random
ids is deleted in turn, and the drop of the last position's largest logit is its score. The cases:

- `prefix reuse`: `explainer.explain(ids, method=LeaveOneOut())`, everything included: the shared forward pass, the
  cache, its checks. The last layer computes only the row that is read.
- `whole`: the same with `prefix_cache=False`: every changed prompt is read whole, in batches of about 2,048 tokens.
- `loop, one logit`: what a careful user would write: batches of 8 changed prompts, no gradient, no cache, the logits of
  the last position alone.
- `loop`: the same without `logits_to_keep`, as most would write it.

The cases take turns (a b c d, d c b a, …), so that a slow minute of the machine falls on all of them. Reported are
medians, their ratios, and the quartiles of the ratios within each round. Deleting one of n tokens and reading the rest
whole costs n(n − 1) tokens; from the deleted token on it is half of that.
"""

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import _llama
import _measure
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table as Grid
from speed import machine
from torch import Tensor
from transformers import LlamaForCausalLM

import apportion as ap

HERE = Path(__file__).parent
OURS, GOAL = "prefix reuse", 2.0
HEADINGS = ["case", "seconds", "× prefix reuse", "quartiles", "distance of scores"]

console = Console(width=None if sys.stdout.isatty() else 120)

Case = Callable[[Tensor], Tensor]


def looped(model: LlamaForCausalLM, ids: Tensor, *, size: int = 8, **options: int) -> Tensor:
    """Leave-one-out as a user would write it."""
    with torch.no_grad():
        row = model(ids[None], use_cache=False, **options).logits[0, -1]
        target = int(row.argmax())
        without = torch.stack([torch.cat([ids[:i], ids[i + 1 :]]) for i in range(len(ids))])
        values = [model(some, use_cache=False, **options).logits[:, -1, target] for some in without.split(size)]
    return row[target] - torch.cat(values)


def explained(explainer: ap.Explainer, ids: Tensor, *, prefix_cache: bool) -> Tensor:
    """Leave-one-out of this library."""
    method = ap.LeaveOneOut(masker="delete", prefix_cache=prefix_cache)
    return explainer.explain(ids, method=method, progress=False).scores


def cases(model: LlamaForCausalLM) -> Mapping[str, Case]:
    """What is measured, by name."""
    explainer = ap.Explainer(model)
    return {
        OURS: partial(explained, explainer, prefix_cache=True),
        "whole": partial(explained, explainer, prefix_cache=False),
        "loop, one logit": partial(looped, model, logits_to_keep=1),
        "loop": partial(looped, model),
    }


def measured(by_name: Mapping[str, Case], ids: Tensor, rounds: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds by case and round, and how far each case's scores are from ours, relative to their length."""
    seconds: dict[str, list[float]] = {name: [] for name in by_name}
    scores: dict[str, Tensor] = {}
    for case in by_name.values():
        case(ids[:16])  # warms up
    with Progress(console=console, transient=True) as progress:
        for number in progress.track(range(rounds), description=f"n = {len(ids)}"):
            names = list(by_name) if number % 2 == 0 else reversed(list(by_name))
            for name in names:
                kept: list[Tensor] = []
                seconds[name].append(_measure.seconds(lambda case=by_name[name], kept=kept: kept.append(case(ids))))
                scores[name] = kept[0].double()
    ours = scores[OURS]
    return seconds, {name: float((theirs - ours).norm() / ours.norm()) for name, theirs in scores.items()}


def lines(seconds: Mapping[str, list[float]], distances: Mapping[str, float]) -> list[list[str]]:
    """One line per case, as a reader sees it."""
    found = []
    for name, mine in seconds.items():
        ratios = [a / b for a, b in zip(mine, seconds[OURS], strict=True)]
        low, _, high = quantiles(ratios, method="inclusive") if len(ratios) > 1 else ratios * 3
        ratio = median(mine) / median(seconds[OURS])
        found.append([name, f"{median(mine):.2f}", f"{ratio:.2f}", f"{low:.2f}–{high:.2f}", f"{distances[name]:.1e}"])
    return found


def save(seconds: Mapping[str, list[float]], distances: Mapping[str, float], n: int, folder: Path) -> None:
    """Write leave_one_out.json and leave_one_out.md, each whole or not at all."""
    facts = machine()
    naive = next(name for name in seconds if name != OURS)
    ratio = median(seconds[naive]) / median(seconds[OURS])
    rows = [HEADINGS, ["---"] + ["---:"] * (len(HEADINGS) - 1), *lines(seconds, distances)]
    page = [
        "# Leave-one-out with prefix reuse",
        "",
        "Written by `benchmarks/leave_one_out_speed.py`; its docstring says what each row is.",
        "",
        *[f"- {name}: {value}" for name, value in facts.items()],
        f"- {len(seconds[OURS])} rounds, after a warm-up on 16 tokens.",
        "",
        f"## n = {n}",
        "",
        *[f"| {' | '.join(row)} |" for row in rows],
        "",
        f"{naive} : prefix reuse, time: {ratio:.2f} (goal ≥ {GOAL}).",
    ]
    data = {"machine": facts, "n": n, "seconds": dict(seconds), "distances": dict(distances), f"{naive} : ours": ratio}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"leave_one_out.json": json.dumps(data, indent=1), "leave_one_out.md": "\n".join(page)}.items():
        draft = folder / f"{name}.draft"
        draft.write_text(text + "\n")
        draft.replace(folder / name)


def arguments() -> Namespace:
    """The command line."""
    parser = ArgumentParser(description="Time of leave-one-out with prefix reuse against whole changed prompts.")
    parser.add_argument("--n", type=int, default=256, help="tokens of the prompt (default 256)")
    parser.add_argument("--rounds", type=int, help="rounds that count (default 3, with --quick 1)")
    parser.add_argument("--cases", help="only these beside prefix reuse, with commas (default all)")
    parser.add_argument("--quick", action="store_true", help="one round, nothing written")
    parser.add_argument("--output", type=Path, help="folder for the results (default benchmarks/results)")
    return parser.parse_args()


def main() -> None:
    """Measure, print and keep."""
    options = arguments()
    vocab = 32_000
    by_name = cases(_llama.random_llama(vocab))
    if options.cases:
        by_name = {name: by_name[name] for name in (OURS, *options.cases.split(","))}
    seconds, distances = measured(
        by_name, _llama.random_ids(options.n, vocab), options.rounds or 1 + 2 * (not options.quick)
    )
    grid = Grid(title=f"n = {options.n}", title_justify="left")
    for index, heading in enumerate(HEADINGS):
        grid.add_column(heading, justify="right" if index else "left")
    for cells in lines(seconds, distances):
        grid.add_row(*cells)
    console.print(grid)
    folder = options.output or (None if options.quick else HERE / "results")
    if folder:
        save(seconds, distances, options.n, folder)
        console.print(f"Kept in {folder}")


if __name__ == "__main__":
    main()
