"""Time of a whole answer's attribution against one `explain` for each of its tokens.

    python benchmarks/generation_speed.py            # some minutes on two cores
    python benchmarks/generation_speed.py --quick    # prompt 16, answer 8, the Llama alone; writes nothing

The models are a 12-layer Llama with random frozen weights in float32 (`_llama.py`) and, where it is installed, the demo
model SmolLM2-135M-Instruct. Prompt and answer are random tokens. The cases:

- `separate`: `explain(prefix, target=token)` for each token of the answer, on what stands before it, with its defaults:
  a forward and a backward pass each. Its time is 1.00.
- `whole`: `explainer.answer(prompt, answer).attribute()`, with its defaults, the ledger included.
- `span`: `attribute_span` of the whole answer: one target, one backward pass.

The cases take turns, after a warm-up on two tokens of the answer. Reported are medians, and the quartiles of the ratios
within each round. The scores of both are compared once, relative to the largest.

What to expect: with frozen weights a backward pass costs what a forward pass costs, so a separate run is two passes
over its prefix. `whole` spares nearly every forward pass, which makes 2 ×; it gains further where matrices of one
prefix leave the processor idle, or where what Python does for each node counts (small models, accelerators).
"""

import json
import os
import platform
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import _llama
import _measure
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

import apportion as ap

HERE = Path(__file__).parent
METHODS = ("attnlrp", "cp-lrp")
GOAL = 3.0

console = Console()


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model and method.

    Args:
        model: Its name.
        method: The method's.
        prompt: Tokens of the prompt.
        answer: Tokens of the answer.
        seconds: By case, an entry per round.
        difference: Of the scores, relative to the largest.
    """

    model: str
    method: str
    prompt: int
    answer: int
    seconds: dict[str, list[float]]
    difference: float

    def faster(self, case: str = "whole") -> float:
        """How many times faster than separate runs, by medians."""
        return median(self.seconds["separate"]) / median(self.seconds[case])

    def spread(self) -> tuple[float, float]:
        """Quartiles of the ratio within a round."""
        pairs = zip(self.seconds["separate"], self.seconds["whole"], strict=True)
        ratios = [separate / whole for separate, whole in pairs]
        low, _, high = quantiles(ratios, method="inclusive") if len(ratios) > 1 else ratios * 3
        return low, high


def explainers(only: str | None) -> dict[str, ap.Explainer]:
    """The models by name."""
    found = {} if only == "smollm2" else {"12-layer Llama": ap.Explainer(_llama.random_llama(32_000))}
    if only != "llama":
        try:
            found["SmolLM2-135M"] = ap.load("demo")
        except ap.ApportionError as error:
            console.print(f"Without SmolLM2: {error}")
    return found


def separate(explainer: ap.Explainer, ids: Sequence[int], prompt: int, method: str) -> list[Tensor]:
    """The scores of each token of the answer from a run of its own."""
    return [explainer.explain(ids[:t], target=ids[t], method=method).scores for t in range(prompt, len(ids))]


def measured(name: str, explainer: ap.Explainer, method: str, *, prompt: int, answer: int, rounds: int) -> Row:
    """The cases in turn."""
    ids = (_llama.random_ids(prompt + answer, 1000) + 100).tolist()
    generation = explainer.answer(ids[:prompt], ids[prompt:])
    cases: dict[str, Callable[[], object]] = {
        "separate": lambda: separate(explainer, ids, prompt, method),
        "whole": lambda: generation.attribute(method=method, progress=False),
        "span": lambda: generation.attribute_span(range(answer), method=method, progress=False),
    }
    seconds: dict[str, list[float]] = {case: [] for case in cases}
    found: dict[str, Any] = {}
    separate(explainer, ids[: prompt + 2], prompt, method)  # warms up
    generation.attribute(method=method, of=range(2), progress=False)
    with Progress(console=console, transient=True) as progress:
        for number in progress.track(range(rounds), description=f"{name}, {method}"):
            for case in list(cases) if number % 2 == 0 else reversed(list(cases)):
                seconds[case].append(_measure.seconds(lambda case=case: found.update({case: cases[case]()})))
    whole, alone = found["whole"].scores, found["separate"]
    apart = max((whole[t, : len(row)] - row).abs().max().item() for t, row in enumerate(alone))
    return Row(
        model=name,
        method=method,
        prompt=prompt,
        answer=answer,
        seconds=seconds,
        difference=apart / whole.abs().max().item(),
    )


def page(rows: Sequence[Row], machine: dict[str, object]) -> str:
    """The results as Markdown."""
    lines = ["# Whole answers", "", "Written by `benchmarks/generation_speed.py`; its docstring says what it measures."]
    lines += ["", *(f"- {name}: {value}" for name, value in machine.items()), ""]
    lines += [
        "| model | method | prompt + answer | separate, s | whole, s | faster | quartiles | span, s | difference |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        low, high = row.spread()
        separate_s, whole, span = (median(row.seconds[case]) for case in ("separate", "whole", "span"))
        lines.append(
            f"| {row.model} | {row.method} | {row.prompt} + {row.answer} | {separate_s:.2f} | {whole:.2f} "
            f"| {row.faster():.2f} × | {low:.2f}–{high:.2f} | {span:.2f} | {row.difference:.0e} |"
        )
    met = sum(row.faster() >= GOAL for row in rows)
    return "\n".join([*lines, "", f"Goal: ≥ {GOAL:.0f} × faster; met in {met} of {len(rows)}."]) + "\n"


def arguments() -> Namespace:
    """The command line."""
    parser = ArgumentParser(description="Time of a whole answer's attribution against one run for each token.")
    parser.add_argument("--quick", action="store_true", help="prompt 16, answer 8, the Llama alone, nothing written")
    parser.add_argument("--rounds", type=int, help="rounds that count (default 5, with --quick 2)")
    parser.add_argument("--model", choices=("llama", "smollm2"), help="only this model (default both)")
    parser.add_argument("--output", type=Path, help="folder for the results (default benchmarks/results)")
    return parser.parse_args()


def main() -> None:
    """Measure, print and keep."""
    options = arguments()
    prompt, answer = (16, 8) if options.quick else (64, 64)
    rounds = options.rounds or (2 if options.quick else 5)
    machine: dict[str, object] = {
        "date": date.today().isoformat(),
        "cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "processor": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "torch": version("torch"),
        "transformers": version("transformers"),
        "rounds": rounds,
    }
    if hasattr(os, "getloadavg"):
        machine["load before the run"] = round(os.getloadavg()[0], 2)
    rows = [
        measured(name, explainer, method, prompt=prompt, answer=answer, rounds=rounds)
        for name, explainer in explainers("llama" if options.quick else options.model).items()
        for method in METHODS
    ]
    text = page(rows, machine)
    console.print(text, markup=False, highlight=False)
    folder = options.output or (None if options.quick else HERE / "results")
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        data = json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=1) + "\n"
        for name, content in (("generation.json", data), ("generation.md", text)):
            draft = folder / f"{name}.draft"
            draft.write_text(content)
            draft.replace(folder / name)


if __name__ == "__main__":
    main()
