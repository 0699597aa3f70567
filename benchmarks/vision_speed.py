"""Time and peak memory of apportion on a vision transformer against the gradient, Chefer et al. and Captum's Grad-CAM.

    python benchmarks/vision_speed.py             # batches of 1 and 4, some ten minutes on two cores
    python benchmarks/vision_speed.py --quick     # batch of 1, three rounds; prints, writes nothing

The model is a ViT-B/16 with random frozen weights in float32 for images of 224 × 224 (`_vit.py`). What is explained is
each image's largest logit; all cases get the same batch. The cases:

- `gradient`: `torch.autograd.grad` of the logits by the pixels. Its time and memory are 1.00.
- `attnlrp`, `res-lrp`, `cp-lrp`: the engine, `record` and `propagate`, with relevance of the pixels and the ledger.
- `attnlrp, explained` and so on: `explainer.explain(images, method=...)`; a batch has no ledger there.
- `chefer`: the method of Chefer et al. 2021 written plainly, on attention that is written out, which it needs.
- `captum grad-cam, patches` and `…, last block`: `LayerGradCam` by the patch convolution and by the last block's
  attention. From the last block the way back is short, so it costs little more than a forward pass; so does its answer
  know only that block.

Captum runs in a worker process (`_captum_environment.py`) with the same model, one process at a time. The cases take
turns (a b c, c b a, …), so that a slow minute of the machine falls on all of them. Reported are medians, ratios of
medians, and the quartiles of the ratios within each round. Memory is what tensors hold at most (`_measure.py`), in a
fresh process per case.
"""

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import _measure
from _captum_environment import CaptumUnavailable, captum_python
from _vision_worker import vision_cases
from _vit import random_images
from _worker import Worker, WorkerError, working
from rich.table import Table as Grid
from speed import Timer, console, interleaved_seconds, machine

HERE = Path(__file__).parent
UNIT = "gradient"
CAPTUM = ("captum grad-cam, patches", "captum grad-cam, last block")
GOALS = {"attnlrp": 1.1, "res-lrp": 1.1}
MEASURED_FOR_MEMORY = (UNIT, *GOALS, "chefer")
ROUNDS = {1: 15, 4: 5}
HEADINGS = ["case", "seconds", "× gradient", "quartiles", "peak MiB", "× gradient"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What was measured for one size of the batch.

    Args:
        batch: Images.
        seconds: By case, one entry per round.
        memory: By case the bytes that tensors held at most, where that was measured.
    """

    batch: int
    seconds: dict[str, list[float]]
    memory: dict[str, int] = field(default_factory=dict)

    def ratio(self, case: str, unit: str = UNIT) -> float:
        """Ratio of the medians of two cases' times."""
        return median(self.seconds[case]) / median(self.seconds[unit])

    def cells(self) -> Iterator[list[str]]:
        """One line per case, as a reader sees it."""
        for case, seconds in self.seconds.items():
            ratios = [own / unit for own, unit in zip(seconds, self.seconds[UNIT], strict=True)]
            low, _, high = quantiles(ratios, method="inclusive") if len(ratios) > 1 else ratios * 3
            cells = [case, f"{median(seconds):.3f}", f"{self.ratio(case):.3f}", f"{low:.2f}–{high:.2f}"]
            if case in self.memory:
                cells += [f"{self.memory[case] / 2**20:.0f}", f"{self.memory[case] / self.memory[UNIT]:.3f}"]
            yield cells + [""] * (len(HEADINGS) - len(cells))

    def goals(self) -> Iterator[list[str]]:
        """What is asked of the ratios, what was measured, and whether it is met."""
        for case, most in GOALS.items():
            ratio = self.ratio(case)
            yield [f"{case} : {UNIT}, time", f"{ratio:.3f}", f"≤ {most}", "yes" if ratio <= most else "no"]
        for case in GOALS:
            for other in ("chefer", *CAPTUM):
                if other in self.seconds:
                    yield [f"{other} : {case}, time", f"{self.ratio(other, case):.3f}", "", ""]


def measured(captum: Worker | None, batch: int, *, rounds: int, with_memory: bool) -> Setting:
    """All cases for one size of the batch."""
    images = random_images(batch)
    timers: dict[str, Timer] = {
        name: partial(_measure.seconds, partial(case, images)) for name, case in vision_cases().items()
    }
    if captum is not None:
        timers |= {case: partial(captum.seconds, case, batch) for case in CAPTUM}
    seconds = interleaved_seconds(timers, rounds=rounds, label=f"batch of {batch}")
    memory = {case: tensor_bytes(case, batch) for case in MEASURED_FOR_MEMORY} if with_memory else {}
    return Setting(batch=batch, seconds=seconds, memory=memory)


def tensor_bytes(case: str, batch: int) -> int:
    """The most that tensors hold during one case, in a process that does nothing else."""
    with console.status(f"memory of {case}"), working(sys.executable, HERE / "_vision_worker.py") as worker:
        return worker.memory(case, batch).tensors


def printed(setting: Setting) -> None:
    """Show a setting and its goals in the terminal."""
    grid = Grid(title=f"batch of {setting.batch}", title_justify="left")
    for index, heading in enumerate(HEADINGS):
        grid.add_column(heading, justify="right" if index else "left")
    for cells in setting.cells():
        grid.add_row(*cells)
    console.print(grid)
    for what, number, wanted, met in setting.goals():
        style = {"yes": "green", "no": "red"}.get(met)
        console.print(f"  {what}: {number}{f' (goal {wanted})' if wanted else ''}", style=style, highlight=False)


def markdown(settings: list[Setting], facts: Mapping[str, str | int | float]) -> str:
    """The results as a page."""
    lines = ["# Speed on a vision transformer", ""]
    lines += ["Written by `benchmarks/vision_speed.py`; its docstring says what each row is.", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    for setting in settings:
        lines += ["", f"## Batch of {setting.batch}, {len(setting.seconds[UNIT])} rounds", ""]
        lines += _table(HEADINGS, list(setting.cells()))
        lines += ["", *_table(["ratio", "measured", "goal", "met"], list(setting.goals()))]
    return "\n".join(lines) + "\n"


def _table(headings: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (headings, ["---"] + ["---:"] * (len(headings) - 1), *rows)]


def save(settings: list[Setting], facts: Mapping[str, str | int | float], folder: Path) -> None:
    """Write vision_speed.json and vision_speed.md, each whole or not at all."""
    data = {
        "machine": facts,
        "settings": [
            asdict(setting) | {"ratios": {case: setting.ratio(case) for case in setting.seconds}}
            for setting in settings
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"vision_speed.json": json.dumps(data, indent=1) + "\n", "vision_speed.md": markdown(settings, facts)}
    for name, text in pages.items():
        draft = folder / f"{name}.draft"
        draft.write_text(text)
        draft.replace(folder / name)


def arguments() -> Namespace:
    """The command line."""
    parser = ArgumentParser(description="Time and memory on a ViT-B/16 beside the gradient, Chefer et al. and Captum.")
    parser.add_argument("--quick", action="store_true", help="a batch of 1, three rounds, nothing written")
    parser.add_argument("--rounds", type=int, help="rounds that count (default 15 for one image, 5 for four)")
    parser.add_argument("--batch", type=int, nargs="+", default=list(ROUNDS), help="images at once (default 1 4)")
    parser.add_argument("--no-captum", action="store_true", help="leave Captum out")
    parser.add_argument("--no-memory", action="store_true", help="leave peak memory out")
    parser.add_argument("--output", type=Path, help="folder for the results (default benchmarks/results)")
    return parser.parse_args()


def main() -> None:
    """Measure, print and keep."""
    options = arguments()
    facts = machine()
    if options.no_captum:
        settings = all_settings(options, None)
    else:
        with console.status("Captum's environment"):
            python = captum_python()
        with working(python, HERE / "_captum_vision_worker.py") as captum:
            facts |= {"captum": captum.versions["captum"]}
            settings = all_settings(options, captum)
    folder = options.output or (None if options.quick else HERE / "results")
    if folder:
        save(settings, facts, folder)
        console.print(f"Kept in {folder}")


def all_settings(options: Namespace, captum: Worker | None) -> list[Setting]:
    """Every size of the batch, printed as it is done; memory for the first alone."""
    settings: list[Setting] = []
    for batch in options.batch[:1] if options.quick else options.batch:
        rounds = options.rounds or (3 if options.quick else ROUNDS.get(batch, 5))
        with_memory = not (options.quick or options.no_memory or settings)
        settings.append(measured(captum, batch, rounds=rounds, with_memory=with_memory))
        printed(settings[-1])
    return settings


if __name__ == "__main__":
    try:
        main()
    except (WorkerError, CaptumUnavailable) as error:
        sys.exit(f"error: {error}")
