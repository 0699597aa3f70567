"""Time and peak memory of apportion's relevance against the plain gradient and against LXT.

    python benchmarks/speed.py                 # everything, about half an hour on two cores
    python benchmarks/speed.py --quick         # n = 128, three rounds; prints, writes nothing
    python benchmarks/speed.py --no-lxt        # without the other library

The model is a 12-layer Llama with random frozen weights in float32 (`_llama.py`). The cases:

- `gradient`: the plain gradient of the last position's largest logit by the input embeddings, `logits_to_keep=1`. Its
  time and memory are 1.00.
- `attnlrp`, `cp-lrp`: `explainer.explain(ids, method=...)` with its defaults, the ledger included.
- `attnlrp + cp-lrp`: both on one forward pass, against `attnlrp` alone.
- `lxt gradient`: the same plain gradient in LXT's environment, whose transformers is older. It is 1.00 for:
- `lxt attnlrp`, `lxt cp-lrp`: LXT's patches with frozen parameters and all logits, as its documentation has them.
- `lxt attnlrp, one logit`: the same with `logits_to_keep=1`, which its users can pass: what the engine itself costs.

The cases take turns (a b c, c b a, a b c, …), so that a slow minute of the machine falls on all of them; going back
and forth gives each case different predecessors. apportion's run in this process, LXT's in worker processes in LXT's
environment with the same weights, one process at a time. Reported are medians, ratios of medians, and the quartiles
of the ratios within each round; a ratio outside its own quartiles says that the machine was busy. Memory is measured
in a fresh process per case (`_measure.py` says how). The tokens' relevance is compared with LXT's once per setting.
"""

import json
import os
import platform
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, replace
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path

import _llama
import _measure
import torch
from _apportion_worker import RECIPES, apportion_cases
from _lxt_environment import LxtUnavailable, lxt_python
from _pages import write_block
from _results import Row, Setting, Table, goal_cells, markdown, summary
from _worker import Worker, WorkerError, working
from rich.console import Console
from rich.progress import Progress
from rich.table import Table as Grid

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "speed.md"
APPORTION_WORKER = HERE / "_apportion_worker.py"
LXT_WORKER = HERE / "_lxt_worker.py"

SETTINGS = [
    Setting(n=128, vocab=32_000),
    Setting(n=512, vocab=32_000),
    Setting(n=1024, vocab=32_000),
    Setting(n=512, vocab=128_256),
]
QUICK_SETTINGS = SETTINGS[:1]

LXT_CASES: Mapping[str, tuple[str | None, str]] = {
    "lxt gradient": (None, "one logit"),
    "lxt attnlrp": ("attnlrp", "all logits"),
    "lxt cp-lrp": ("cp-lrp", "all logits"),
    "lxt attnlrp, one logit": ("attnlrp", "one logit"),
}
"""By name in the tables: LXT's recipe that the worker is patched with, and the case to ask it for."""

Timer = Callable[[], float]

console = Console(width=None if sys.stdout.isatty() else 120)


def interleaved_seconds(timers: Mapping[str, Timer], *, rounds: int, label: str) -> dict[str, list[float]]:
    """Let the timers take turns; the first round warms up and is not kept."""
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    with Progress(console=console, transient=True) as progress:
        for number in progress.track(range(rounds + 1), description=label):
            names = list(timers) if number % 2 == 0 else reversed(list(timers))
            for name in names:
                measured = timers[name]()
                if number:
                    seconds[name].append(measured)
    return seconds


class Bench:
    """The processes and weights for one vocabulary.

    Args:
        stack: Ends the workers and removes the weights.
        vocab: Size of the vocabulary.
        lxt: Interpreter of LXT's environment; None to go without.
    """

    def __init__(self, stack: ExitStack, vocab: int, lxt: Path | None) -> None:
        self._vocab = vocab
        self._lxt = lxt
        model = _llama.random_llama(vocab)
        self._weights = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "llama.safetensors"
        _llama.save_weights(model, self._weights)
        self._cases = apportion_cases(model)
        self._workers: dict[str | None, Worker] = {}
        if lxt:
            for recipe in (None, *RECIPES):
                self._workers[recipe] = stack.enter_context(self._working_lxt(recipe))

    @property
    def lxt_versions(self) -> dict[str, str]:
        """Versions in LXT's environment; empty without it."""
        workers = list(self._workers.values())
        versions = workers[0].versions if workers else {}
        return {package if package == "lxt" else f"{package} beside lxt": text for package, text in versions.items()}

    def timers(self, n: int) -> dict[str, Timer]:
        """One per case, each measuring one call."""
        ids = _llama.random_ids(n, self._vocab)
        timers: dict[str, Timer] = {
            name: partial(_measure.seconds, partial(case, ids)) for name, case in self._cases.items()
        }
        if self._workers:
            for name, (recipe, case) in LXT_CASES.items():
                timers[name] = partial(self._workers[recipe].seconds, case, n)
        return timers

    def memory(self, case: str, n: int) -> _measure.Memory:
        """Peak memory of one case in a fresh process."""
        if case in LXT_CASES:
            recipe, name = LXT_CASES[case]
            with self._working_lxt(recipe) as worker:
                return worker.memory(name, n)
        with working(sys.executable, APPORTION_WORKER, self._weights, self._vocab) as worker:
            return worker.memory(case, n)

    def differences(self, n: int) -> dict[str, float]:
        """Distance of apportion's relevance from LXT's relative to its length, by recipe; empty without LXT."""
        ids = _llama.random_ids(n, self._vocab)
        differences = {}
        for recipe in RECIPES if self._workers else ():
            mine = self._cases[recipe](ids).double()
            theirs = torch.tensor(self._workers[recipe].relevance("all logits", n), dtype=torch.float64)
            differences[recipe] = ((mine - theirs).norm() / theirs.norm()).item()
        return differences

    def _working_lxt(self, recipe: str | None) -> AbstractContextManager[Worker]:
        options = ["--recipe", recipe] if recipe else []
        if self._lxt is None:
            raise WorkerError("there is no environment for LXT")
        return working(self._lxt, LXT_WORKER, self._weights, self._vocab, *options)


def measured(bench: Bench, setting: Setting, *, rounds: int, with_memory: bool) -> Table:
    """All cases in one setting."""
    differences = bench.differences(setting.n)
    seconds = interleaved_seconds(bench.timers(setting.n), rounds=rounds, label=str(setting))
    rows = {
        case: Row(case=case, unit="lxt gradient" if case in LXT_CASES else "gradient", seconds=seconds[case])
        for case in seconds
    }
    if with_memory:
        with Progress(console=console, transient=True) as progress:
            for case in progress.track(list(rows), description=f"{setting}, memory"):
                rows[case] = replace(rows[case], memory=bench.memory(case, setting.n))
    return Table(setting=setting, rows=rows, differences=differences)


def machine() -> dict[str, str | int | float]:
    """What the numbers depend on besides the code."""
    facts: dict[str, str | int | float] = {
        "date": date.today().isoformat(),
        "cores": os.cpu_count() or 1,
        "torch threads": torch.get_num_threads(),
        "processor": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }
    if hasattr(os, "getloadavg"):
        facts["load before the run"] = round(os.getloadavg()[0], 2)
    return facts


def printed(table: Table) -> None:
    """Show a table and its goals in the terminal."""
    grid = Grid(title=str(table.setting), title_justify="left")
    for index, heading in enumerate(table.headings()):
        grid.add_column(heading, justify="right" if index else "left")
    for cells in table.cells():
        grid.add_row(*cells)
    console.print(grid)
    for what, number, wanted, met in goal_cells(table):
        console.print(f"  {what}: {number} (goal {wanted})", style="green" if met == "yes" else "red", highlight=False)
    for row in table.rows.values():
        if row.memory and row.memory.kept:
            console.print(f"  {row.case} keeps {row.memory.kept / 2**20:.2f} MiB after its result is dropped.")


def lxt_interpreter() -> tuple[Path | None, str]:
    """Interpreter of LXT's environment, or None; and a note for the reader."""
    try:
        with console.status("LXT's environment"):
            return lxt_python(), "LXT runs in an environment of its own."
    except (LxtUnavailable, OSError) as error:
        return None, f"Without LXT: its environment can't be made ({error})."


def save(tables: list[Table], facts: dict[str, str | int | float], notes: list[str], folder: Path) -> None:
    """Write speed.json and speed.md, each whole or not at all."""
    data = {
        "machine": facts,
        "notes": notes,
        "tables": [asdict(table) | {"goals": [asdict(goal) for goal in table.goals()]} for table in tables],
    }
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"speed.json": json.dumps(data, indent=1) + "\n", "speed.md": markdown(tables, facts, notes)}
    for name, text in pages.items():
        draft = folder / f"{name}.draft"
        draft.write_text(text)
        draft.replace(folder / name)
    if folder == HERE / "results":
        write_block(PAGE, "speed", summary(tables, facts))


def arguments() -> Namespace:
    """The command line."""
    parser = ArgumentParser(description="Time and peak memory of apportion against the plain gradient and LXT.")
    parser.add_argument("--quick", action="store_true", help="n = 128 only, three rounds, nothing written")
    parser.add_argument("--rounds", type=int, help="rounds per setting that count (default 15, with --quick 3)")
    parser.add_argument("--no-lxt", action="store_true", help="leave LXT out")
    parser.add_argument("--no-memory", action="store_true", help="leave peak memory out")
    parser.add_argument("--output", type=Path, help="folder for speed.json and speed.md (default benchmarks/results)")
    return parser.parse_args()


def main() -> None:
    """Measure, print and keep."""
    options = arguments()
    rounds = options.rounds or (3 if options.quick else 15)
    settings = QUICK_SETTINGS if options.quick else SETTINGS
    lxt, note = (None, "Without LXT, as asked.") if options.no_lxt else lxt_interpreter()
    notes = [f"{rounds} rounds per setting ({rounds // 2 + 1} for the longest), after one that is not counted.", note]
    console.print(note)
    facts = machine()
    tables = []
    for vocab in dict.fromkeys(setting.vocab for setting in settings):
        with ExitStack() as stack:
            bench = Bench(stack, vocab, lxt)
            facts |= bench.lxt_versions
            for setting in (setting for setting in settings if setting.vocab == vocab):
                fewer = setting.n > 512 or setting.vocab > 32_000  # long calls, which a busy moment disturbs less
                counted = rounds // 2 + 1 if fewer else rounds
                tables.append(measured(bench, setting, rounds=counted, with_memory=not options.no_memory))
                printed(tables[-1])
    folder = options.output or (None if options.quick else HERE / "results")
    if folder:
        save(tables, facts, notes, folder)
        console.print(f"Kept in {folder}")


if __name__ == "__main__":
    try:
        main()
    except WorkerError as error:
        raise SystemExit(f"error: {error}") from error
