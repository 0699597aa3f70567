"""Integrated gradients of apportion against Captum's: time at equal values.

    python benchmarks/captum_speed.py             # n = 128 and 256, nine rounds, about an hour on two cores
    python benchmarks/captum_speed.py --quick     # n = 32, 4 steps, two rounds; prints, writes nothing

The model is a 12-layer Llama with random frozen weights in float32 (`_llama.py`). What is explained is the logit of
one token at the last position, on the straight line from the embedding of one token at every place, by 32 points of
the Gauss–Legendre rule; on both sides so many points run as one batch that they make 2,048 tokens, and the target is
read at both ends of the line too: for our ledger, and for `return_convergence_delta=True`, which Captum's tutorials
ask for. The cases:

- `apportion`: `explainer.explain(ids, method=IntegratedGradients(...))`.
- `captum, by layer`: `LayerIntegratedGradients` on the embedding, as in Captum's tutorials on text; with all logits.
- `captum, embeddings`: `IntegratedGradients` on `inputs_embeds`; with all logits.
- `captum, one logit`: the same with `logits_to_keep=1`, which its users can pass: what the integration itself costs.

Captum runs in a worker process (`_captum_environment.py`) with the same weights, torch and transformers, one process
at a time. The cases take turns (a b c, c b a, …), so that a slow minute of the machine falls on all of them. Reported
are medians, ratios of medians, and the quartiles of the ratios within each round. Values are compared once a setting.
"""

import json
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import _llama
import _measure
import torch
from _captum_environment import CaptumUnavailable, captum_python
from _worker import WorkerError, working
from rich.table import Table as Grid
from speed import console, interleaved_seconds, machine

import apportion as ap

HERE = Path(__file__).parent
OURS = "apportion"
CAPTUM = ("captum, by layer", "captum, embeddings", "captum, one logit")
VOCABULARY = 32_000
TARGET, BASELINE, TOKENS = 1, 2, 2048
HEADINGS = ["case", "seconds", "× apportion", "quartiles", "relative difference"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What was measured for one length of the prompt.

    Args:
        n: Tokens.
        steps: Points on the line.
        seconds: By case, one entry per round.
        differences: By case of Captum's, how far its scores are from ours relative to their length.
        gap: Our completeness gap, relative to the target's difference between both ends.
    """

    n: int
    steps: int
    seconds: dict[str, list[float]]
    differences: dict[str, float]
    gap: float

    def ratio(self, case: str) -> float:
        """Ratio of a case's median time to ours: above 1 is slower than apportion."""
        return median(self.seconds[case]) / median(self.seconds[OURS])

    def cells(self) -> Iterator[list[str]]:
        """One line per case, as a reader sees it."""
        for case, seconds in self.seconds.items():
            ratios = [theirs / ours for theirs, ours in zip(seconds, self.seconds[OURS], strict=True)]
            low, _, high = quantiles(ratios, method="inclusive") if len(ratios) > 1 else ratios * 3
            difference = f"{self.differences[case]:.1e}" if case in self.differences else ""
            yield [case, f"{median(seconds):.2f}", f"{self.ratio(case):.3f}", f"{low:.2f}–{high:.2f}", difference]


def measured(python: Path, n: int, *, steps: int, rounds: int) -> tuple[Setting, dict[str, str]]:
    """All cases for one length, and the versions in Captum's environment."""
    model = _llama.random_llama(VOCABULARY)
    explainer = ap.Explainer(model)
    method = ap.IntegratedGradients(steps=steps, baseline=BASELINE, batch_size=max(1, TOKENS // n))
    ids = _llama.random_ids(n, VOCABULARY)
    explain = partial(explainer.explain, ids, target=TARGET, method=method, progress=False)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "llama.safetensors"
        _llama.save_weights(model, weights)
        script = HERE / "_captum_worker.py"
        with working(python, script, weights, VOCABULARY, TARGET, BASELINE, steps, TOKENS) as worker:
            mine = explain()
            scores = mine.scores.double()
            differences = {}
            for case in CAPTUM:
                theirs = torch.tensor(worker.relevance(case, n), dtype=torch.float64)
                differences[case] = ((scores - theirs).norm() / theirs.norm()).item()
            timers = {OURS: partial(_measure.seconds, explain)}
            timers |= {case: partial(worker.seconds, case, n) for case in CAPTUM}
            seconds = interleaved_seconds(timers, rounds=rounds, label=f"n = {n}")
            versions = worker.versions
    lines = mine.ledger.lines
    way = mine.ledger.total - lines["target at the baseline"]
    gap = (lines["completeness gap"] / way).abs().item()
    return Setting(n=n, steps=steps, seconds=seconds, differences=differences, gap=gap), versions


def printed(setting: Setting) -> None:
    """Show a setting in the terminal."""
    grid = Grid(title=f"n = {setting.n}, {setting.steps} steps", title_justify="left")
    for index, heading in enumerate(HEADINGS):
        grid.add_column(heading, justify="right" if index else "left")
    for cells in setting.cells():
        grid.add_row(*cells)
    console.print(grid)


def markdown(settings: list[Setting], facts: dict[str, str | int | float]) -> str:
    """The results as a page."""
    lines = ["# Integrated gradients beside Captum", ""]
    lines += ["Written by `benchmarks/captum_speed.py`; its docstring says what each row is.", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    for setting in settings:
        lines += ["", f"## n = {setting.n}, {setting.steps} steps", ""]
        rows = [HEADINGS, ["---"] + ["---:"] * (len(HEADINGS) - 1), *setting.cells()]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        worst = min(setting.ratio(case) for case in CAPTUM)
        lines += ["", f"Goal: Captum : apportion ≥ 1 in every case; the smallest is {worst:.3f}. "]
        lines[-1] += f"Completeness gap, relative to the target's difference: {setting.gap:.1e}."
    return "\n".join(lines) + "\n"


def save(settings: list[Setting], facts: dict[str, str | int | float], folder: Path) -> None:
    """Write captum.json and captum.md, each whole or not at all."""
    ratios = [{case: setting.ratio(case) for case in CAPTUM} for setting in settings]
    data = {
        "machine": facts,
        "settings": [asdict(setting) | {"ratios": of} for setting, of in zip(settings, ratios, strict=True)],
    }
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"captum.json": json.dumps(data, indent=1) + "\n", "captum.md": markdown(settings, facts)}
    for name, text in pages.items():
        draft = folder / f"{name}.draft"
        draft.write_text(text)
        draft.replace(folder / name)


def arguments() -> Namespace:
    """The command line."""
    parser = ArgumentParser(description="Integrated gradients of apportion against Captum's.")
    parser.add_argument("--quick", action="store_true", help="n = 32, 4 steps, two rounds, nothing written")
    parser.add_argument("--rounds", type=int, help="rounds that count (default 9, with --quick 2)")
    parser.add_argument("--n", type=int, nargs="+", default=[128, 256], help="tokens of the text (default 128 256)")
    parser.add_argument("--output", type=Path, help="folder for captum.json and captum.md (default benchmarks/results)")
    return parser.parse_args()


def main() -> None:
    """Measure, print and keep."""
    options = arguments()
    rounds = options.rounds or (2 if options.quick else 9)
    facts = machine() | {"rounds": rounds}
    with console.status("Captum's environment"):
        python = captum_python()
    settings = []
    for n in [32] if options.quick else options.n:
        setting, versions = measured(python, n, steps=4 if options.quick else 32, rounds=rounds)
        facts |= {"captum": versions["captum"]}
        settings.append(setting)
        printed(setting)
    folder = options.output or (None if options.quick else HERE / "results")
    if folder:
        save(settings, facts, folder)
        console.print(f"Kept in {folder}")


if __name__ == "__main__":
    try:
        main()
    except (WorkerError, CaptumUnavailable) as error:
        sys.exit(f"error: {error}")
